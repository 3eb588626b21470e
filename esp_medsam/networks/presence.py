"""Presence heads: is a target in the image at all? A mask alone cannot say "not here"."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from esp_medsam.networks.modality_query import per_target


FIRST_LOGIT = 3.0
"""Bias of a fresh head, a probability of 0.95: one that no image ever trained empties no mask."""


class PresenceHead(nn.Module):
    """What one target looks for, and how it weighs what it finds.

    It begins with attention to all places alike, and says that its target is there.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        bound = embed_dim**-0.5
        self.attention = nn.Parameter(torch.zeros(embed_dim))
        self.weight = nn.Parameter(torch.empty(embed_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.full((1,), FIRST_LOGIT))


class PresenceHeads(nn.Module):
    """Predict for each target whether an image holds it, from the image embedding.

    Each target pools the embedding by attention of its own, so that one which fills few cells is
    not averaged away. Neither patch prompt nor decoder is read: where those are misled, this is
    not misled with them. Nothing is shared by targets, so that a further one changes no other.

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
            # Scripts know no cast, and allow nothing behind the ignore.
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
