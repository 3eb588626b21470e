"""Self-patch prompt generator: a dense prompt predicted from the image itself."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.networks.layers import LayerNorm2d
from esp_medsam.networks.modality_query import per_target


PATCH = 32
"""Side of a patch in pixels of the network's input."""

PROMPTS = ("hard", "straight_through", "soft")
"""How patch logits become a prompt."""


class PatchHead(nn.Module):
    """Head that computes one patch map from the patch features."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        bound = hidden_dim**-0.5
        self.weight = nn.Parameter(torch.empty(hidden_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(1))


class SelfPatchPromptGenerator(nn.Module):
    """Prediction of the patches of an image that hold a target, and embedding as a dense prompt.

    It replaces the points, boxes and masks that a user gives to SAM. A patch is 2 x 2 cells of the
    embedding, 32 x 32 pixels. As released, the patch prompt is binary and cut from the graph: the
    mask loss cannot reach the patch heads, so only a loss on the patch logits trains them. The two
    other prompts let the mask loss through.

    Args:
        targets: Target names of each modality, for one patch map per target; None for a single
            map that all targets share, as in the released network.
        embed_dim: Channels D of the image embedding.
        hidden_dim: Channels of the patch features.
        threshold: Lowest foreground probability, in (0, 1), at which a patch becomes a prompt.
        prompt: ``hard`` is 0 or 1, without gradient. ``straight_through`` is the same 0 or 1, with
            the gradient of the probability. ``soft`` is the probability: the embeddings of
            "holds the target" and "does not" are weighted by it, and no threshold is applied.

    Raises:
        ValueError: If ``threshold`` is outside (0, 1), or ``prompt`` is not one of the three.

    Reference:
        Xu et al., "ESP-MedSAM", arXiv:2407.14153, Self-Patch Prompt Generator.
    """

    def __init__(
        self,
        targets: Mapping[str, Sequence[str]] | None,
        *,
        embed_dim: int = 256,
        hidden_dim: int = 64,
        threshold: float = 0.5,
        prompt: Literal["hard", "straight_through", "soft"] = "hard",
    ) -> None:
        super().__init__()
        if not 0.0 < threshold < 1.0:
            msg = f"threshold must lie in (0, 1); got {threshold}."
            raise ValueError(msg)
        if prompt not in PROMPTS:
            msg = f"prompt must be one of {', '.join(PROMPTS)}; got {prompt!r}."
            raise ValueError(msg)
        self.threshold = threshold
        self.prompt = str(prompt)
        self.shared = targets is None
        self.patch_features = nn.Sequential(
            nn.Conv2d(embed_dim, hidden_dim, kernel_size=2, stride=2),
            LayerNorm2d(hidden_dim),
            nn.GELU(),
        )
        every = {"all": ["targets"]} if targets is None else targets
        self.heads = per_target(every, lambda: PatchHead(hidden_dim))
        self.prompt_embed = nn.Sequential(
            nn.Conv2d(1, embed_dim, kernel_size=1),
            LayerNorm2d(embed_dim),
            nn.GELU(),
        )

    @torch.jit.export
    def patch_logits(self, image_embedding: Tensor, query: Tensor) -> Tensor:
        """Predict for each target which patches hold it.

        Args:
            image_embedding: ``(B, D, h, w)``, h and w even.
            query: Number of the query in each row of the result, ``(B, T)``.

        Returns:
            Patch logits, ``(B, T, h / 2, w / 2)``; above zero means "holds the target".
        """
        weights: list[Tensor] = []
        biases: list[Tensor] = []
        for modality in self.heads.values():
            # TorchScript supports no cast, and no comment after the ignore.
            for head in modality.values():  # type: ignore[operator]
                weights.append(head.weight)
                biases.append(head.bias)
        row = torch.zeros_like(query) if self.shared else query
        features = self.patch_features(image_embedding)
        height, width = features.shape[-2], features.shape[-1]
        weight_BTC = torch.stack(weights)[row].to(features.dtype)
        logits = weight_BTC @ features.flatten(2) + torch.stack(biases)[row].to(features.dtype)
        logits_BTHW: Tensor = logits.view(query.shape[0], query.shape[1], height, width)
        return logits_BTHW

    @torch.jit.export
    def patch_prompt(self, patch_logits: Tensor) -> Tensor:
        """Return the prompt strength of each patch, in 0..1, in the shape of ``patch_logits``."""
        if self.prompt == "hard":
            return (patch_logits.detach().sigmoid() >= self.threshold).to(patch_logits.dtype)
        probability = patch_logits.sigmoid()
        if self.prompt == "soft":
            return probability
        chosen = (probability.detach() >= self.threshold).to(patch_logits.dtype)
        return chosen + (probability - probability.detach())

    def forward(self, patch_prompt: Tensor) -> Tensor:
        """Embed patch prompts.

        Args:
            patch_prompt: 0 or 1, ``(P, 1, h / 2, w / 2)``; in 0..1 if the prompt is soft.

        Returns:
            Dense prompt embedding, ``(P, D, h, w)``, to be added to the image embedding.
        """
        cells = F.interpolate(patch_prompt, scale_factor=2.0, mode="nearest")
        if self.prompt == "soft":
            # Embedded directly, 0.1 would look almost like 1: the following norm removes scale.
            absent = self.prompt_embed(torch.zeros_like(cells[:1, :, :1, :1]))
            present = self.prompt_embed(torch.ones_like(cells[:1, :, :1, :1]))
            weighted: Tensor = cells * present + (1.0 - cells) * absent
            return weighted
        embedded: Tensor = self.prompt_embed(cells)
        return embedded
