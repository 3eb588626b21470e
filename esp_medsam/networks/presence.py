"""Presence heads: is a target in the image at all? A mask alone cannot say "not here"."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from esp_medsam.networks.modality_query import per_target


FIRST_LOGIT = 3.0
"""Bias of a fresh head, a probability of 0.95, so that an untrained head empties no mask."""


class PresenceHead(nn.Module):
    """Attention of one target over the embedding, and a classifier of the attended features.

    It starts with equal attention to all positions, and predicts that its target is present.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        bound = embed_dim**-0.5
        self.attention = nn.Parameter(torch.zeros(embed_dim))
        self.weight = nn.Parameter(torch.empty(embed_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.full((1,), FIRST_LOGIT))


class PresenceHeads(nn.Module):
    """Prediction for each target whether an image holds it, from the image embedding.

    Each target pools the embedding with its own attention, so that a target in few cells is not
    averaged away. The patch prompt and the decoder are not used, so that their errors do not
    spread here. Targets share nothing, so that adding a target does not change others.

    Args:
        targets: Target names of each modality, one head each.
        embed_dim: Channels D of the image embedding.
    """

    def __init__(self, targets: Mapping[str, Sequence[str]], embed_dim: int = 256) -> None:
        super().__init__()
        self.scale = embed_dim**-0.5
        self.heads = per_target(targets, lambda: PresenceHead(embed_dim))

    def forward(self, image_embedding: Tensor, query: Tensor) -> Tensor:
        """Return presence logits, ``(B, T)`` float32; above zero means "is in the image".

        Args:
            image_embedding: ``(B, D, h, w)``.
            query: Number of the query in each row of the result, ``(B, T)``.
        """
        attentions: list[Tensor] = []
        weights: list[Tensor] = []
        biases: list[Tensor] = []
        for modality in self.heads.values():
            # TorchScript supports no cast, and no comment after the ignore.
            for head in modality.values():  # type: ignore[operator]
                attentions.append(head.attention)
                weights.append(head.weight)
                biases.append(head.bias)
        cells = image_embedding.flatten(2).float()
        attention_BTD = torch.stack(attentions)[query].float()
        share = torch.softmax((attention_BTD @ cells).float() * self.scale, dim=-1)
        pooled = share @ cells.transpose(1, 2)
        evidence = (pooled * torch.stack(weights)[query]).float().sum(-1)
        logits: Tensor = evidence + torch.stack(biases)[query].float().squeeze(-1)
        return logits
