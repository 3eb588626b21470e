"""Dot products and mixtures of the values under a kernel, without a copy for each tap.

Both have custom gradients, which write into one map instead of summing one map per tap. Scripts,
traces and compilers get plain operations, which do copy.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class Taps(NamedTuple):
    """Layout of the taps of a kernel as views of a padded grid.

    Attributes:
        kernel_size: Rows and columns of taps.
        dilation: Cells between two taps, in rows and columns.
        stride: Cells between two output positions, in rows and columns.
        size: Rows and columns of the grid, without its padding.
    """

    kernel_size: tuple[int, int]
    dilation: tuple[int, int]
    stride: tuple[int, int]
    size: tuple[int, int]


def views(padded: Tensor, taps: Taps) -> list[Tensor]:
    """Return a view ``(B, h, w, ...)`` per tap of a padded grid ``(B, H + ..., W + ..., ...)``."""
    found: list[Tensor] = []
    for row in range(taps.kernel_size[0]):
        top = row * taps.dilation[0]
        for column in range(taps.kernel_size[1]):
            left = column * taps.dilation[1]
            rows = padded[:, top : top + taps.size[0] : taps.stride[0]]
            found.append(rows[:, :, left : left + taps.size[1] : taps.stride[1]])
    return found


def dots(vectors: Tensor, padded: Tensor, taps: Taps) -> Tensor:
    """Return the dot product of each vector with the values under its kernel.

    Args:
        vectors: ``(B, h, w, heads, d)``.
        padded: ``(B, H + ..., W + ..., heads, d)``.
        taps: Layout of the K views of ``padded``.

    Returns:
        ``(K, B, h, w, heads)``.
    """
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        return _plain_dots(vectors, padded, taps)
    return _dots(vectors, padded, taps)


def mixture(weights: Tensor, padded: Tensor, taps: Taps) -> Tensor:
    """Return the weighted sum of the values under each kernel.

    Args:
        weights: ``(K, B, h, w, heads)``.
        padded: ``(B, H + ..., W + ..., heads, d)``.
        taps: Layout of the K views of ``padded``.

    Returns:
        ``(B, h, w, heads, d)``.
    """
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        return _plain_mixture(weights, padded, taps)
    return _mixture(weights, padded, taps)


def _plain_dots(vectors: Tensor, padded: Tensor, taps: Taps) -> Tensor:
    return (vectors * tap_copies(padded, taps)).sum(-1)


def _plain_mixture(weights: Tensor, padded: Tensor, taps: Taps) -> Tensor:
    return (weights[..., None] * tap_copies(padded, taps)).sum(0)


def tap_copies(padded: Tensor, taps: Taps) -> Tensor:
    """Return a copy of the values under each kernel, ``(K, B, h, w, heads, d)``."""
    places: list[Tensor] = []
    for axis in range(2):
        first = torch.arange(0, taps.size[axis], taps.stride[axis], device=padded.device)
        step = torch.arange(taps.kernel_size[axis], device=padded.device) * taps.dilation[axis]
        places.append(step[:, None] + first)
    rows, columns = places[0][:, None, :, None], places[1][None, :, None, :]
    return padded[:, rows, columns].flatten(1, 2).transpose(0, 1)


@torch.jit.unused
def _dots(vectors: Tensor, padded: Tensor, taps: Taps) -> Tensor:
    if _is_recorded():
        return _plain_dots(vectors, padded, taps)
    apply: Callable[..., Tensor] = _Dots.apply  # typed since PyTorch 2.14
    return apply(vectors, padded, taps)


@torch.jit.unused
def _mixture(weights: Tensor, padded: Tensor, taps: Taps) -> Tensor:
    if _is_recorded():
        return _plain_mixture(weights, padded, taps)
    apply: Callable[..., Tensor] = _Mixture.apply
    return apply(weights, padded, taps)


def _is_recorded() -> bool:
    """Whether a trace or a compiler is recording the computation."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing or torch.compiler.is_compiling()


class _Dots(Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, padded: Tensor, taps: Taps) -> Tensor:
        ctx.save_for_backward(vectors, padded)
        ctx.taps = taps
        return _each_dot(vectors, padded, taps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        vectors, padded = ctx.saved_tensors
        of_vectors = _each_mixture(gradient, padded, ctx.taps)
        return of_vectors, _spread(gradient, vectors, padded, ctx.taps), None


class _Mixture(Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, padded: Tensor, taps: Taps) -> Tensor:
        ctx.save_for_backward(weights, padded)
        ctx.taps = taps
        return _each_mixture(weights, padded, taps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        weights, padded = ctx.saved_tensors
        of_weights = _each_dot(gradient, padded, ctx.taps)
        return of_weights, _spread(weights, gradient, padded, ctx.taps), None


def _each_dot(vectors: Tensor, padded: Tensor, taps: Taps) -> Tensor:
    under = views(padded, taps)
    products = vectors.new_empty((len(under), *vectors.shape[:-1]))
    product = torch.empty_like(vectors)
    for place, tap in enumerate(under):
        torch.mul(vectors, tap, out=product)
        torch.sum(product, -1, out=products[place])
    return products


def _each_mixture(weights: Tensor, padded: Tensor, taps: Taps) -> Tensor:
    under = views(padded, taps)
    mixed = torch.zeros_like(under[0])
    for place, tap in enumerate(under):
        mixed.addcmul_(weights[place, ..., None], tap)
    return mixed


def _spread(weights: Tensor, vectors: Tensor, like: Tensor, taps: Taps) -> Tensor:
    """Return weighted vectors, each added under its kernel: the adjoint of a mixture."""
    spread = torch.zeros_like(like)
    for place, tap in enumerate(views(spread, taps)):
        tap.addcmul_(weights[place, ..., None], vectors)
    return spread
