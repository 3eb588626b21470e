"""Learned queries of the mask decoder, one per (modality, target).

The parameters of a target are stored under its name (``ct.liver``) in nested modules, so that
state dicts match by name and never by position.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn


def per_target(
    targets: Mapping[str, Sequence[str]], make: Callable[[], nn.Module]
) -> nn.ModuleDict:
    """Return one new module per target, nested as ``[modality][target]``."""
    return nn.ModuleDict(
        {
            modality: nn.ModuleDict({name: make() for name in names})
            for modality, names in targets.items()
        }
    )


class Query(nn.Module):
    """The tokens of one target: its query, then auxiliary tokens that only join the attention."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(tokens, dim))


class ModalityQueries(nn.Module):
    """The decoder's tokens for every target of every modality.

    Args:
        targets: Target names of each modality; queries are counted in this order.
        dim: Channels of a token.
        tokens_per_target: Tokens of a target, its query included. The released network has one;
            in a short trial four more changed nothing.
        joint: Whether all queries go through the decoder together and see each other, as in the
            released code, instead of each target's tokens alone.
        spare: Further tokens that are decoded but not used; the released network has one.
    """

    def __init__(
        self,
        targets: Mapping[str, Sequence[str]],
        dim: int = 256,
        *,
        tokens_per_target: int = 1,
        joint: bool = False,
        spare: int = 0,
    ) -> None:
        super().__init__()
        if tokens_per_target < 1:
            msg = f"tokens_per_target must be at least 1; got {tokens_per_target}."
            raise ValueError(msg)
        if not joint and spare:
            msg = f"spare tokens need joint decoding; got spare={spare} with joint=False."
            raise ValueError(msg)
        self.joint = joint
        self.tokens_per_target = tokens_per_target
        self.targets = per_target(targets, lambda: Query(tokens_per_target, dim))
        self.spare = nn.Parameter(torch.randn(spare, dim))

    def forward(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens to decode for each pair.

        Args:
            query: Number of each pair's query, ``(P,)``.

        Returns:
            Tokens, ``(P, K, D)``, and the place of each pair's query among its K, ``(P,)``.
        """
        stacked: list[Tensor] = []
        for modality in self.targets.values():
            # TorchScript supports no cast, and no comment after the ignore.
            for target in modality.values():  # type: ignore[operator]
                stacked.append(target.tokens)
        if self.joint:
            stacked.append(self.spare)
            together = torch.cat(stacked)
            tokens = together[None].expand(query.shape[0], together.shape[0], together.shape[1])
            return tokens, query * self.tokens_per_target
        return torch.stack(stacked).index_select(0, query), torch.zeros_like(query)
