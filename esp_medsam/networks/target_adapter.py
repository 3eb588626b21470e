"""Target adapters, added to a trained network to change the embedding for single targets."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.networks.modality_query import per_target


class TargetAdapter(nn.Module):
    """A bottleneck parallel to the identity; it starts at zero, so that nothing changes at first.

    Args:
        dim: Channels of the adapted features.
        width: Channels of the bottleneck.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        bound = dim**-0.5
        self.down = nn.Parameter(torch.empty(width, dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(width))
        self.up = nn.Parameter(torch.zeros(dim, width))


class TargetAdapters(nn.Module):
    """Cell-by-cell adaptation of the image embedding to the targets that have an adapter.

    A query and a patch head alone can find only what the frozen decoder sees in the embedding.
    For other targets, the embedding stays bit-identical.

    Args:
        targets: Target names of each modality; queries are counted in this order.
        adapted: Target names that have an adapter, by modality.
        dim: Channels D of the image embedding.
        width: Channels of the bottleneck.

    Raises:
        ValueError: If a name in ``adapted`` is not a target.

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
        # Number of each query's adapter; the last number stands for one that adds nothing.
        number = [chosen.index(pair) if pair in chosen else len(chosen) for pair in every]
        self.register_buffer("number", torch.tensor(number), persistent=False)

    def forward(self, source: Tensor, query: Tensor) -> Tensor:
        """Return the decoder's input for each pair.

        Args:
            source: Image embedding of each pair, ``(P, D, h, w)``.
            query: Number of each pair's query, ``(P,)``.
        """
        downs: list[Tensor] = []
        biases: list[Tensor] = []
        ups: list[Tensor] = []
        for modality in self.adapters.values():
            # TorchScript supports no cast, and no comment after the ignore.
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
