"""Query-decoupled mask decoder: SAM's decoder with one query per target instead of prompts."""

import torch
from torch import Tensor, nn

from esp_medsam.networks.layers import LayerNorm2d
from esp_medsam.networks.two_way_transformer import TwoWayTransformer


class MaskDecoder(nn.Module):
    """Decoder of each (image, target) pair into mask logits and a decoded query.

    Args:
        hypernetwork: Turns decoded tokens into mask weights of ``dim // 8`` channels.
        dim: Channels of the image embedding.

    Reference:
        Kirillov et al., "Segment Anything", arXiv:2304.02643 (two-way transformer, upscaling);
        Xu et al., "ESP-MedSAM", arXiv:2407.14153 (modality queries).
    """

    def __init__(self, hypernetwork: nn.Module, dim: int = 256) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(dim)
        self.upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.hypernetwork = hypernetwork

    def forward(
        self, source: Tensor, image_pe: Tensor, tokens: Tensor, place: Tensor, query: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode pairs.

        Args:
            source: Image embedding plus dense prompt of each pair, ``(P, D, h, w)``.
            image_pe: Its positional encoding, ``(1, D, h, w)``.
            tokens: Tokens of each pair, ``(P, K, D)``.
            place: Which of the K tokens is the pair's query, ``(P,)``.
            query: Number of that query, ``(P,)``.

        Returns:
            Low-resolution logits, ``(P, 4 h, 4 w)``, and the decoded query, ``(P, D)``.
        """
        P, D, height, width = source.shape
        tokens, image = self.transformer(
            tokens, source.flatten(2).transpose(1, 2), image_pe.flatten(2).transpose(1, 2)
        )
        token = tokens[torch.arange(P, device=place.device), place]
        upscaled = self.upscaling(image.transpose(1, 2).reshape(P, D, height, width))
        weights = self.hypernetwork(token, query).to(upscaled.dtype)
        logits = (weights[:, None] @ upscaled.flatten(2)).view(P, 4 * height, 4 * width)
        return logits, token
