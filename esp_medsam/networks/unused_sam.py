"""Parameters that the released checkpoints contain and nothing uses.

They are held so that a converted checkpoint is complete and counts are exact.
"""

from torch import nn

from esp_medsam.networks.layers import LayerNorm2d


class UnusedPromptEncoder(nn.Module):
    """SAM's embeddings of points, boxes and masks; this network makes its own prompts."""

    def __init__(self, dim: int = 256) -> None:
        super().__init__()
        self.point_embeddings = nn.ModuleList([nn.Embedding(1, dim) for _ in range(4)])
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.no_mask_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, kernel_size=2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, dim, kernel_size=1),
        )
