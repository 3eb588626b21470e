"""TinyViT, the trunk of the image encoder, with a controller bank in every transformer block.

MobileSAM's 5M variant: the last merge has stride 1, so the embedding has stride 16.

Reference:
    Wu et al., "TinyViT", arXiv:2207.10666; Zhang et al., "Faster Segment Anything"
    (MobileSAM), arXiv:2306.14289; controllers as in Xu et al., "ESP-MedSAM", arXiv:2407.14153.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.networks.layers import ConvNorm, FeedForward
from esp_medsam.networks.modality_controller import ControllerBank, Route, WindowToken


class MBConv(nn.Module):
    """Inverted residual: expand by 4, depthwise 3 x 3, project; GELU after the sum as well."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.expand = ConvNorm(dim, 4 * dim)
        self.depthwise = ConvNorm(4 * dim, 4 * dim, 3, groups=4 * dim)
        self.project = ConvNorm(4 * dim, dim, norm_init=0.0)

    def forward(self, features: Tensor) -> Tensor:
        """Return the block's output; ``features`` and it are ``(B, C, H, W)``."""
        hidden = F.gelu(self.depthwise(F.gelu(self.expand(features))))
        return F.gelu(features + self.project(hidden))


class PatchMerging(nn.Module):
    """Change of the number of channels that, at stride 2, also halves the grid."""

    def __init__(self, in_dim: int, out_dim: int, *, stride: int) -> None:
        super().__init__()
        self.expand = ConvNorm(in_dim, out_dim)
        self.depthwise = ConvNorm(out_dim, out_dim, 3, stride=stride, groups=out_dim)
        self.project = ConvNorm(out_dim, out_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, out_dim, H / stride, W / stride)``."""
        merged: Tensor = self.project(F.gelu(self.depthwise(F.gelu(self.expand(features)))))
        return merged


class WindowAttention(nn.Module):
    """Self-attention inside a window, with a modality's token among keys and values.

    The relative position bias depends only on the absolute offsets ``(|dy|, |dx|)``.

    Args:
        dim: Channels.
        heads: Attention heads.
        window: Side of the window.
    """

    bias_index: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        offset = (place[:, None] - place[None]).abs()
        self.register_buffer(
            "bias_index", offset[..., 0] * window + offset[..., 1], persistent=False
        )

    def forward(self, windows: Tensor, token: WindowToken) -> Tensor:
        """Return the attended windows, ``(B, windows, N, C)``, without the residual."""
        B, count, N, C = windows.shape
        qkv = self.qkv(self.norm(windows)).view(B, count, N, self.heads, 3, C // self.heads)
        query, key, value = qkv.permute(4, 0, 1, 3, 2, 5).unbind(0)  # (B, windows, heads, N, d)
        query = query * self.scale
        bias = self.attention_biases[:, self.bias_index]
        logits = query @ key.transpose(-2, -1) + bias
        token_key = token.key[:, None, :, :, None].to(query.dtype)
        token_logit = query @ token_key + token.bias[:, None, None, None, None]
        attention = torch.cat([logits, token_logit], dim=-1).softmax(dim=-1).to(value.dtype)
        mixed = attention[..., :N] @ value
        mixed = mixed + attention[..., N:] * token.value[:, None, :, None, :].to(value.dtype)
        attended: Tensor = self.proj(mixed.transpose(2, 3).reshape(B, count, N, C))
        return attended


class TinyViTBlock(nn.Module):
    """Window attention, a depthwise convolution, then feed-forward and modality expert.

    Args:
        dim: Channels.
        heads: Attention heads.
        window: Side of the attention window. The grid is padded with zeros up to a multiple of
            it, and the padding takes part in the attention, as in the released code.
        modalities: Names of the modalities that own a controller.
        expert_ratio: Hidden width of an expert over ``dim``.
        tied_token: See :class:`~esp_medsam.networks.modality_controller.ModalityController`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        window: int,
        *,
        modalities: Sequence[str],
        expert_ratio: float,
        tied_token: bool,
    ) -> None:
        super().__init__()
        self.window = window
        self.attention = WindowAttention(dim, heads, window)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = FeedForward(dim, 4 * dim)
        self.bank = ControllerBank(
            modalities, dim, heads, round(expert_ratio * dim), tied_token=tied_token
        )

    def attend(self, grid: Tensor, token: WindowToken) -> Tensor:
        """Return the windowed attention of ``grid``, ``(B, H, W, C)``, without the residual."""
        B, H, W, C = grid.shape
        window = self.window
        pad_bottom, pad_right = -H % window, -W % window
        if pad_bottom > 0 or pad_right > 0:
            grid = F.pad(grid, (0, 0, 0, pad_right, 0, pad_bottom))
        rows, columns = (H + pad_bottom) // window, (W + pad_right) // window
        windows = grid.view(B, rows, window, columns, window, C).transpose(2, 3)
        windows = windows.reshape(B, rows * columns, window * window, C)
        attended = self.attention(windows, token)
        attended = attended.view(B, rows, columns, window, window, C).transpose(2, 3)
        attended = attended.reshape(B, H + pad_bottom, W + pad_right, C)
        cropped: Tensor = attended[:, :H, :W]
        return cropped

    def forward(self, features: Tensor, batch_route: Route) -> Tensor:
        """Return the block's output; ``features`` and it are ``(B, C, H, W)``."""
        B, C, H, W = features.shape
        attended = self.attend(features.permute(0, 2, 3, 1), self.bank.window_token(batch_route))
        features = self.local_conv(features + attended.permute(0, 3, 1, 2))
        tokens = features.permute(0, 2, 3, 1).reshape(B, H * W, C)
        tokens = tokens + self.mlp(tokens) + self.bank(tokens, batch_route)
        updated: Tensor = tokens.view(B, H, W, C).permute(0, 3, 1, 2)
        return updated


class TransformerStage(nn.Module):
    """Transformer blocks of one width, and the merge that follows them."""

    def __init__(self, blocks: Sequence[TinyViTBlock], merge: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.merge = merge

    def forward(self, features: Tensor, batch_route: Route) -> tuple[Tensor, Tensor]:
        """Return the features before and after the merge."""
        for block in self.blocks:
            features = block(features, batch_route)
        return features, self.merge(features)
