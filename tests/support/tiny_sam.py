"""An image encoder built like SAM's, of any size, with its names: the plain one to compare with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.networks.layers import LayerNorm2d


class PatchEmbed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, 16, stride=16)

    def forward(self, image: Tensor) -> Tensor:
        tokens: Tensor = self.proj(image)
        return tokens.permute(0, 2, 3, 1)


class Attention(nn.Module):
    """Attention with the logits spelled out pair by pair, slow and plain."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.randn(2 * side - 1, width // heads) * 0.1)
        self.rel_pos_w = nn.Parameter(torch.randn(2 * side - 1, width // heads) * 0.1)

    def forward(self, window: Tensor) -> Tensor:
        count, h, w, width = window.shape
        d = width // self.num_heads
        query, key, value = self.qkv(window).view(count, h * w, 3, self.num_heads, d).unbind(2)
        row, column = (torch.arange(h * w) // w), (torch.arange(h * w) % w)
        from_rows = self.rel_pos_h[row[:, None] - row[None] + h - 1]  # (query, key, d)
        from_columns = self.rel_pos_w[column[:, None] - column[None] + w - 1]
        logits = torch.einsum("nqad,nkad->naqk", query, key) * d**-0.5
        logits = logits + torch.einsum("nqad,qkd->naqk", query, from_rows + from_columns)
        mixed = torch.einsum("naqk,nkad->nqad", logits.softmax(-1), value)
        attended: Tensor = self.proj(mixed.reshape(count, h, w, width))
        return attended


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin1, self.lin2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        update: Tensor = self.lin2(F.gelu(self.lin1(tokens)))
        return update


class Block(nn.Module):
    def __init__(self, width: int, heads: int, window: int, grid: int) -> None:
        super().__init__()
        self.window_size = window
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn = Attention(width, heads, window or grid)
        self.mlp = Mlp(width)

    def forward(self, grid: Tensor) -> Tensor:
        normalized = self.norm1(grid)
        if self.window_size:
            attended = torch.zeros_like(normalized)
            side = self.window_size
            for top in range(0, grid.shape[1], side):
                for left in range(0, grid.shape[2], side):
                    window = normalized[:, top : top + side, left : left + side]
                    h, w = window.shape[1:3]
                    padded = F.pad(window, (0, 0, 0, side - w, 0, side - h))
                    attended[:, top : top + h, left : left + w] = self.attn(padded)[:, :h, :w]
        else:
            attended = self.attn(normalized)
        grid = grid + attended
        mixed: Tensor = self.mlp(self.norm2(grid))
        return grid + mixed


class TinySAM(nn.Module):
    """SAM's image encoder by its parts; a small one where no sizes are given.

    Args:
        width: Channels of a token.
        depth: Blocks.
        heads: Attention heads.
        global_blocks: Blocks that attend to the whole grid.
        grid: Side of the grid of tokens that it was made for.
        window: Side of a window of the other blocks.
    """

    def __init__(
        self,
        width: int = 24,
        depth: int = 3,
        heads: int = 2,
        global_blocks: tuple[int, ...] = (1,),
        grid: int = 4,
        window: int = 3,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(width)
        self.pos_embed = nn.Parameter(torch.randn(1, grid, grid, width) * 0.1)
        self.blocks = nn.ModuleList(
            Block(width, heads, 0 if place in global_blocks else window, grid)
            for place in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(width, 256, 1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            LayerNorm2d(256),
        )

    def forward(self, image: Tensor) -> Tensor:
        grid = self.patch_embed(image) + self.pos_embed
        for block in self.blocks:
            grid = block(grid)
        embedding: Tensor = self.neck(grid.permute(0, 3, 1, 2))
        return embedding
