"""Modality controllers: the encoder parameters that one modality owns.

In every transformer block, a modality has learned tokens that join the keys and values of each
attention window, a bias on their attention logit, and an expert parallel to the feed-forward part.
The rest of the encoder is shared.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from esp_medsam.networks.layers import FeedForward


class Route(NamedTuple):
    """Assignment of a controller to each image of a batch, computed once per batch.

    Attributes:
        fixed: Place of the single controller that all images use if ``place`` is None.
        place: Place of the controller of each image, ``(B,)``, or None.
        rows: For each controller, the images that use it.
        order: Permutation that restores the order of images grouped by controller.
    """

    fixed: int
    place: Tensor | None
    rows: list[Tensor]
    order: Tensor | None


def route(fixed: int, place: Tensor | None, controllers: int) -> Route:
    """Return the route of a batch; ``place`` None sends every image to ``fixed``."""
    rows: list[Tensor] = []
    if place is None:
        return Route(fixed, None, rows, None)
    for controller in range(controllers):
        rows.append(torch.nonzero(place == controller).squeeze(1))
    return Route(fixed, place, rows, torch.argsort(torch.cat(rows)))


class WindowToken(NamedTuple):
    """Token that a controller adds to the attention of a window; B is 1 if all images share it.

    Attributes:
        key: Learned key, ``(B, heads, head_dim)``.
        value: Learned value, ``(B, heads, head_dim)``.
        bias: Added to the key's attention logit, ``(B,)``.
    """

    key: Tensor
    value: Tensor
    bias: Tensor


class ModalityController(nn.Module):
    """Parameters that one modality owns in one transformer block.

    Args:
        dim: Channels of the block.
        heads: Attention heads of the block.
        expert_dim: Hidden width of the expert.
        tied_token: Whether one token is both key and value, as in the released code; the paper's
            figure draws separate tokens.
    """

    def __init__(self, dim: int, heads: int, expert_dim: int, *, tied_token: bool) -> None:
        super().__init__()
        bound = (6.0 / (3 * 16 * 16 + 16)) ** 0.5  # as released
        self.key = nn.Parameter(torch.empty(heads, dim // heads).uniform_(-bound, bound))
        self.value: nn.Parameter | None
        if tied_token:
            self.register_parameter("value", None)
        else:
            self.value = nn.Parameter(torch.empty_like(self.key).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(1))
        self.expert = FeedForward(dim, expert_dim)

    @torch.jit.export
    def token(self) -> WindowToken:
        """Return the token that joins every attention window, without an axis for images."""
        value = self.value
        return WindowToken(self.key, self.key if value is None else value, self.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the expert's update of ``tokens``, ``(B, N, C)``."""
        update: Tensor = self.expert(tokens)
        return update


class ControllerBank(nn.Module):
    """The controllers of all modalities in one transformer block.

    Args:
        names: Modalities, in the order of the places in a :class:`Route`.
        dim: Channels of the block.
        heads: Attention heads of the block.
        expert_dim: Hidden width of an expert.
        tied_token: See :class:`ModalityController`.
    """

    def __init__(
        self, names: Sequence[str], dim: int, heads: int, expert_dim: int, *, tied_token: bool
    ) -> None:
        super().__init__()
        self.controllers = nn.ModuleDict(
            {
                name: ModalityController(dim, heads, expert_dim, tied_token=tied_token)
                for name in names
            }
        )

    @torch.jit.export
    def window_token(self, batch_route: Route) -> WindowToken:
        """Return the attention token of each image's modality."""
        keys: list[Tensor] = []
        values: list[Tensor] = []
        biases: list[Tensor] = []
        for controller in self.controllers.values():
            # TorchScript supports no cast, and no comment after the ignore.
            token = controller.token()  # type: ignore[operator]
            keys.append(token.key)
            values.append(token.value)
            biases.append(token.bias)
        place = batch_route.place
        if place is None:
            fixed = batch_route.fixed
            return WindowToken(keys[fixed][None], values[fixed][None], biases[fixed])
        return WindowToken(
            torch.stack(keys)[place], torch.stack(values)[place], torch.cat(biases)[place]
        )

    def forward(self, tokens: Tensor, batch_route: Route) -> Tensor:
        """Return each image's update of ``tokens``, ``(B, N, C)``, by its modality's expert."""
        order = batch_route.order
        if order is None:
            update = tokens
            for place, controller in enumerate(self.controllers.values()):
                if place == batch_route.fixed:
                    update = controller(tokens)
            return update
        updates: list[Tensor] = []
        for place, controller in enumerate(self.controllers.values()):
            updates.append(controller(tokens.index_select(0, batch_route.rows[place])))
        return torch.cat(updates).index_select(0, order)
