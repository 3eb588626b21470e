"""Dense positional encoding with random spatial frequencies, as in SAM."""

import math

import torch
from torch import Tensor, nn


class RandomFourierEncoding(nn.Module):
    """Encoding of grid positions by sines and cosines of random frequencies.

    Args:
        embed_dim: Channels of the encoding, even.

    Reference:
        Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions",
        arXiv:2006.10739; Kirillov et al., "Segment Anything", arXiv:2304.02643.
    """

    frequencies: Tensor

    def __init__(self, embed_dim: int = 256) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, embed_dim // 2))

    def forward(self, height: int, width: int) -> Tensor:
        """Return the encoding of a grid's cell centers, ``(1, D, height, width)``."""
        frequencies = self.frequencies
        rows = torch.arange(height, device=frequencies.device, dtype=frequencies.dtype)
        columns = torch.arange(width, device=frequencies.device, dtype=frequencies.dtype)
        y, x = (rows + 0.5) / height, (columns + 0.5) / width
        place = torch.stack([x[None].expand(height, width), y[:, None].expand(height, width)], -1)
        angle = 2 * math.pi * ((2 * place - 1) @ frequencies)
        return torch.cat([angle.sin(), angle.cos()], dim=-1).permute(2, 0, 1)[None]
