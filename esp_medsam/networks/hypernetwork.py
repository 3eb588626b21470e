"""Hypernetworks: from a decoded token to the weights that turn features into its mask."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.networks.modality_query import per_target


class Hypernetwork(nn.Module):
    """One three-layer ReLU network that all queries share, as in the released code.

    Args:
        dim: Channels of a token.
        hidden_dim: Hidden width.
        out_dim: Channels of the features that the mask weights are for.
    """

    def __init__(self, dim: int = 256, hidden_dim: int = 256, *, out_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, hidden_dim)
        self.fc3 = nn.Linear(hidden_dim, out_dim)

    def forward(self, token: Tensor, query: Tensor) -> Tensor:
        """Return mask weights, ``(P, out_dim)``.

        Args:
            token: Decoded token of each pair, ``(P, D)``.
            query: Number of each pair's query, ``(P,)``; all queries use the same network here.
        """
        del query
        weights: Tensor = self.fc3(F.relu(self.fc2(F.relu(self.fc1(token)))))
        return weights


class HypernetworkPerQuery(nn.Module):
    """One three-layer ReLU network per query, as drawn in the paper's figure.

    Args:
        targets: Target names of each modality, one network each.
        dim: Channels of a token.
        hidden_dim: Hidden width.
        out_dim: Channels of the features that the mask weights are for.
    """

    def __init__(
        self,
        targets: Mapping[str, Sequence[str]],
        dim: int = 256,
        hidden_dim: int = 256,
        *,
        out_dim: int,
    ) -> None:
        super().__init__()
        self.targets = per_target(targets, lambda: Hypernetwork(dim, hidden_dim, out_dim=out_dim))

    def forward(self, token: Tensor, query: Tensor) -> Tensor:
        """Return mask weights, ``(P, out_dim)``; arguments as in :class:`Hypernetwork`."""
        outputs: list[Tensor] = []
        for modality in self.targets.values():
            # TorchScript supports no cast, and no comment after the ignore.
            for network in modality.values():  # type: ignore[operator]
                outputs.append(network(token, query))
        return torch.stack(outputs, dim=1)[torch.arange(token.shape[0], device=query.device), query]
