"""Target adapters: what one target sees otherwise than all others, added to a trained network."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.networks.modality_query import per_target


class TargetAdapter(nn.Module):
    """A bottleneck beside the identity; it begins as zero, so that nothing is adapted yet.

    Args:
        dim: Channels of what it adapts.
        width: Channels of the bottleneck.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        bound = dim**-0.5
        self.down = nn.Parameter(torch.empty(width, dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(width))
        self.up = nn.Parameter(torch.zeros(dim, width))


class TargetAdapters(nn.Module):
    """Adapt the image embedding, cell by cell, to the targets that have an adapter.

    A query and a patch head alone can ask only for what the frozen decoder sees in the embedding.
    Other targets get their embedding back to the bit.

    Args:
        targets: Target names of each modality; queries are counted in this order.
        adapted: Those that have an adapter.
        dim: Channels D of the image embedding.
        width: Channels of the bottleneck.

    Raises:
        ValueError: If a name in ``adapted`` is no target.

    Reference:
        Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", arXiv:1902.00751.
    """

    number: Tensor

    def __init__(
        self,
        targets: Mapping[str, Sequence[str]],
        adapted: Mapping[str, Sequence[str]],
        dim: int = 256,
        width: int = 32,
    ) -> None:
        super().__init__()
        every = [(modality, name) for modality, names in targets.items() for name in names]
        chosen = [(modality, name) for modality, names in adapted.items() for name in names]
        if unknown := [".".join(pair) for pair in chosen if pair not in every]:
            msg = f"adapted must name targets; got {', '.join(unknown)}."
            raise ValueError(msg)
        self.adapters = per_target(adapted, lambda: TargetAdapter(dim, width))
        # Of a query: which adapter is its own; behind them all lies one that adds nothing.
        number = [chosen.index(pair) if pair in chosen else len(chosen) for pair in every]
        self.register_buffer("number", torch.tensor(number), persistent=False)

    def forward(self, source: Tensor, query: Tensor) -> Tensor:
        """Return what the decoder is to see for each pair.

        Args:
            source: Image embedding of each pair, ``(P, D, h, w)``.
            query: Number of each pair's query, ``(P,)``.
        """
        downs: list[Tensor] = []
        biases: list[Tensor] = []
        ups: list[Tensor] = []
        for modality in self.adapters.values():
            # Scripts know no cast, and allow nothing behind the ignore.
            for adapter in modality.values():  # type: ignore[operator]
                downs.append(adapter.down)
                biases.append(adapter.bias)
                ups.append(adapter.up)
        downs.append(torch.zeros_like(downs[0]))
        biases.append(torch.zeros_like(biases[0]))
        ups.append(torch.zeros_like(ups[0]))
        own = self.number[query]
        cells = source.flatten(2)
        normalized = F.layer_norm(cells.transpose(1, 2), [cells.shape[1]]).transpose(1, 2)
        hidden = F.gelu(torch.stack(downs)[own] @ normalized + torch.stack(biases)[own][..., None])
        update = torch.stack(ups)[own] @ hidden
        return source + update.view_as(source).to(source.dtype)
