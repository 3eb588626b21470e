"""Building blocks that several parts of the network share.

Shape suffixes in this package:
    B  images in the batch
    T  targets of an image
    P  (image, target) pairs, each decoded alone
    C, D  channels
    H, W  rows and columns; h, w  rows and columns of the image embedding
    N  tokens (image positions, or windows times positions)
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.Module):
    """Normalization of each position of a ``(B, C, H, W)`` map over its channels, as in SAM."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        """Return ``features``, ``(B, C, H, W)``, with zero mean and unit variance over C."""
        mean = features.mean(1, keepdim=True)
        variance = (features - mean).pow(2).mean(1, keepdim=True)
        normalized = (features - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * normalized + self.bias[:, None, None]


class ConvNorm(nn.Module):
    """Convolution without bias, then batch normalization.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel; the input is padded by half of it.
        stride: Step of the kernel.
        groups: Channel groups; ``in_channels`` makes it depthwise.
        norm_init: Initial scale of the normalization; 0 makes a residual branch start silent.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        norm_init: float = 1.0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(out_channels)
        nn.init.constant_(self.norm.weight, norm_init)

    def forward(self, features: Tensor) -> Tensor:
        """Return the normalized convolution of ``features``, ``(B, C, H, W)``."""
        normalized: Tensor = self.norm(self.conv(features))
        return normalized


class FeedForward(nn.Module):
    """Layer normalization and a two-layer GELU network, applied to each token.

    The feed-forward part of a TinyViT block, and with other weights a modality's expert.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the update of ``tokens``, ``(B, N, C)``, without the residual."""
        update: Tensor = self.fc2(self.act(self.fc1(self.norm(tokens))))
        return update


def covering(grid: Tensor, height: int, width: int, stride: int) -> Tensor:
    """Return a grid padded with 0 at bottom and right to cover the padded image.

    The image is padded to the next multiples of 32 rows and columns.

    Args:
        grid: ``(B, C, h, w)``, cells of ``stride`` pixels each, or the image itself.
        height: Rows of the image.
        width: Columns of the image.
        stride: Pixels of a cell along each side.
    """
    patch = 32  # TorchScript cannot use globals
    rows = (height + patch - 1) // patch * patch // stride
    columns = (width + patch - 1) // patch * patch // stride
    return F.pad(grid, [0, columns - grid.shape[-1], 0, rows - grid.shape[-2]])


def embedding_neck(in_dim: int, embed_dim: int) -> nn.Sequential:
    """Return SAM's neck: from an encoder's last features to the image embedding."""
    return nn.Sequential(
        nn.Conv2d(in_dim, embed_dim, kernel_size=1, bias=False),
        LayerNorm2d(embed_dim),
        nn.Conv2d(embed_dim, embed_dim, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(embed_dim),
    )
