"""SAM's two-way transformer: tokens and image attend to each other.

Reference:
    Kirillov et al., "Segment Anything", arXiv:2304.02643.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than the embedding.

    Args:
        dim: Channels of queries, keys and values.
        heads: Attention heads.
        downsample: Factor by which the inner width is smaller.
    """

    def __init__(self, dim: int, heads: int, *, downsample: int = 1) -> None:
        super().__init__()
        inner = dim // downsample
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def split_heads(self, tokens: Tensor) -> Tensor:
        """Return ``(B, N, C)`` as ``(B, heads, N, C / heads)``."""
        B, N, C = tokens.shape
        return tokens.view(B, N, self.heads, C // self.heads).transpose(1, 2)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return the attention of ``query``, ``(B, N, C)``, to ``key`` and ``value``."""
        mixed = F.scaled_dot_product_attention(
            self.split_heads(self.q_proj(query)),
            self.split_heads(self.k_proj(key)),
            self.split_heads(self.v_proj(value)),
        )
        found: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return found


class TwoWayBlock(nn.Module):
    """Self-attention of the tokens, tokens to image, a ReLU network, image to tokens.

    Args:
        dim: Channels.
        heads: Attention heads.
        mlp_dim: Hidden width of the network on the tokens.
        skip_first_pe: Whether self-attention omits positions and replaces the tokens.
    """

    def __init__(self, dim: int, heads: int, mlp_dim: int, *, skip_first_pe: bool) -> None:
        super().__init__()
        self.skip_first_pe = skip_first_pe
        self.self_attn = Attention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, heads, downsample=2)
        self.norm2 = nn.LayerNorm(dim)
        self.lin1 = nn.Linear(dim, mlp_dim)
        self.lin2 = nn.Linear(mlp_dim, dim)
        self.norm3 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, heads, downsample=2)
        self.norm4 = nn.LayerNorm(dim)

    def forward(
        self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return tokens, ``(B, N, C)``, and image, ``(B, h * w, C)``, after the block."""
        if self.skip_first_pe:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_pe
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        placed_image = image + image_pe
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_pe, placed_image, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.lin2(F.relu(self.lin1(tokens))))
        image = image + self.cross_attn_image_to_token(placed_image, tokens + token_pe, tokens)
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """Stack of two-way blocks, then a final attention from the tokens to the image.

    Args:
        dim: Channels.
        depth: Blocks.
        heads: Attention heads.
        mlp_dim: Hidden width of the network on the tokens.
    """

    def __init__(
        self, dim: int = 256, *, depth: int = 2, heads: int = 8, mlp_dim: int = 2048
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [TwoWayBlock(dim, heads, mlp_dim, skip_first_pe=i == 0) for i in range(depth)]
        )
        self.final_attn_token_to_image = Attention(dim, heads, downsample=2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, image: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Let tokens and image attend to each other.

        Args:
            tokens: ``(P, N, D)``; they are their own positional encoding.
            image: ``(P, h * w, D)``.
            image_pe: Its positional encoding, ``(1, h * w, D)``.

        Returns:
            Tokens and image after the last block, shapes unchanged.
        """
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe)
        found = self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens + found), image
