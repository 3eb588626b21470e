"""High-resolution path: full-resolution features, fused once per image, for thin structures.

Neither the paper nor the released code has this path. Their masks have a quarter of the input's
resolution, which is too coarse for vessels and small nuclei.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.networks.layers import ConvNorm


class Fusion(nn.Module):
    """Upsampling of coarse features to a finer grid, mixed with the features of that grid."""

    def __init__(self, coarse_dim: int, fine_dim: int, out_dim: int, *, fine_kernel: int) -> None:
        super().__init__()
        self.coarse = ConvNorm(coarse_dim, out_dim)
        self.fine = ConvNorm(fine_dim, out_dim, fine_kernel)
        self.mix = ConvNorm(out_dim, out_dim, 3)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Return ``(B, out_dim)`` features on the grid of ``fine``."""
        raised = F.interpolate(
            self.coarse(coarse), size=fine.shape[-2:], mode="bilinear", align_corners=False
        )
        return F.relu(self.mix(F.relu(raised + self.fine(fine))))


class HighResolutionPath(nn.Module):
    """Fusion of the embedding, the encoder's early features and the image at full resolution.

    Args:
        embed_dim: Channels of the image embedding.
        pyramid_channels: Channels of the encoder's features at strides 2, 4 and 8.
        widths: Channels after fusing strides 8, 4, 2 and 1.

    Attributes:
        out_dim: Channels of the result.
    """

    def __init__(
        self,
        embed_dim: int = 256,
        pyramid_channels: Sequence[int] = (32, 64, 128),
        widths: Sequence[int] = (64, 32, 24, 16),
    ) -> None:
        super().__init__()
        stride2, stride4, stride8 = pyramid_channels
        self.out_dim = widths[3]
        self.at8 = Fusion(embed_dim, stride8, widths[0], fine_kernel=1)
        self.at4 = Fusion(widths[0], stride4, widths[1], fine_kernel=1)
        self.at2 = Fusion(widths[1], stride2, widths[2], fine_kernel=1)
        self.at1 = Fusion(widths[2], 3, widths[3], fine_kernel=3)

    def forward(self, image: Tensor, image_embedding: Tensor, pyramid: list[Tensor]) -> Tensor:
        """Return full-resolution features.

        Args:
            image: ``(B, 3, H, W)``, normalized.
            image_embedding: ``(B, D, H / 16, W / 16)``.
            pyramid: The encoder's features at strides 2, 4 and 8.

        Returns:
            ``(B, out_dim, H, W)``.
        """
        features = self.at8(image_embedding, pyramid[2])
        features = self.at4(features, pyramid[1])
        features = self.at2(features, pyramid[0])
        fused: Tensor = self.at1(features, image)
        return fused
