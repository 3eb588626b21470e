"""Resize slices to the network's input, and its logits back to the slices.

Both directions work in bands of rows, so even a photograph of many megapixels is never held as
float at its own size. Shapes: ``B`` slices, ``C`` channels, ``T`` targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from esp_medsam.errors import OptionError, check_one_of


RESIZE_MODES = ("fit", "stretch")

_BAND_ELEMENTS = 2**22
"""Elements of one band: 16 MB as float32."""


def input_size_of(value: Sequence[int] | str) -> tuple[int, int] | None:
    """Return a checked input size, ``(H, W)``; ``native`` becomes None.

    Raises:
        OptionError: If it is neither.
    """
    if value == "native":
        return None
    sides: tuple[Any, ...] = () if isinstance(value, str) else tuple(value)
    if len(sides) != 2 or any(int(side) != side or side < 32 or side % 32 for side in sides):
        msg = f"input_size must be two multiples of 32, (H, W), or native; got {value}."
        raise OptionError(msg)
    return int(sides[0]), int(sides[1])


def content_size(
    shape: tuple[int, int],
    spacing: tuple[float, float] | None,
    input_size: tuple[int, int] | None,
    resize: str,
) -> tuple[int, int]:
    """Return the size ``(H, W)`` that a slice occupies in the network's input.

    ``fit`` keeps the aspect ratio, in mm if ``spacing`` is known, and touches two sides of the
    input; ``stretch`` fills it. Without an input size, a slice keeps its own grid; for pixels that
    are not square, ``fit`` then adds rows or columns, so that no detail is lost.

    Args:
        shape: Rows and columns of the slice.
        spacing: Distances between rows and between columns in mm; None means they are equal.
        input_size: ``(H, W)`` of the network's input; None means the slice's own size.
        resize: ``fit`` or ``stretch``.

    Raises:
        OptionError: If ``resize`` is neither ``fit`` nor ``stretch``.
    """
    check_one_of("resize", resize, RESIZE_MODES)
    if resize == "stretch":
        return input_size or shape
    spacing = spacing or (1.0, 1.0)
    if input_size is None:
        rows, columns = (
            max(1, int(n * mm / min(spacing) + 0.5)) for n, mm in zip(shape, spacing, strict=True)
        )
        return rows, columns
    height, width = (n * mm for n, mm in zip(shape, spacing, strict=True))
    scale = min(input_size[0] / height, input_size[1] / width)
    return tuple(  # type: ignore[return-value]  # two sides in, two sides out
        min(limit, max(1, int(side * scale + 0.5)))
        for side, limit in zip((height, width), input_size, strict=True)
    )


def to_content(
    slices: Sequence[Tensor],
    size: tuple[int, int],
    intensity_range: tuple[float, float],
    device: torch.device,
) -> Tensor:
    """Scale slices in their own dtype to floats of the content size.

    Intensities are mapped linearly to 0..1 and clipped, then scaled bilinearly with antialiasing.

    Args:
        slices: ``(C, rows, columns)`` each, all of the same shape.
        size: Content ``(H, W)``.
        intensity_range: The values that become 0 and 1.
        device: Where to compute.

    Returns:
        ``(B, C, H, W)`` in 0..1 on ``device``.
    """
    low, high = intensity_range
    channels, rows, columns = slices[0].shape
    narrowed = []
    # Antialiased bilinear scaling is separable, so scaling columns first, by bands, is exact.
    for band in _bands(rows, len(slices) * channels * columns):
        values = torch.stack([s[:, band].to(device=device, dtype=torch.float32) for s in slices])
        values = ((values - low) / (high - low)).clamp_(0.0, 1.0)
        narrowed.append(_scaled(values, (values.shape[-2], size[1])))
    return _scaled(torch.cat(narrowed, dim=-2), size)


def to_input(
    content: Tensor,
    input_size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """Expand gray to three channels, normalize, and pad with zeros on the right and the bottom."""
    mean_, std_ = (content.new_tensor(value).view(1, 3, 1, 1) for value in (mean, std))
    image = (content.expand(-1, 3, -1, -1) - mean_) / std_
    height, width = content.shape[-2:]
    return F.pad(image, (0, input_size[1] - width, 0, input_size[0] - height))


def to_probability(
    logits: Tensor,
    content: tuple[int, int],
    input_size: tuple[int, int],
    shape: tuple[int, int],
) -> Tensor:
    """Return logits as probabilities on the grid of the slices.

    Args:
        logits: ``(B, T, h, w)`` over the whole input, at its size or a fraction of it.
        content: Size ``(H, W)`` of the part that is not padding.
        input_size: ``(H, W)`` of the network's input.
        shape: Rows and columns of the slices.

    Returns:
        ``(B, T, rows, columns)`` uint8 on the CPU: 255 times the probability, rounded to nearest,
        so that 128 and above mean 0.5 and above.
    """
    if tuple(logits.shape[-2:]) != tuple(input_size):
        logits = F.interpolate(logits, size=input_size, mode="bilinear", align_corners=False)
    logits = logits[..., : content[0], : content[1]]
    rows, columns = shape
    if columns != content[1]:
        size = (content[0], columns)
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)

    batch, targets = logits.shape[:2]
    probability = torch.empty((batch, targets, rows, columns), dtype=torch.uint8)
    for band in _bands(rows, batch * targets * columns):
        values = logits[..., band, :] if rows == content[0] else _lerp_rows(logits, rows, band)
        scaled = values.sigmoid().mul_(255.0).round_()
        probability[..., band, :] = scaled.to(device="cpu", dtype=torch.uint8)
    return probability


def content_part(logits: Tensor, content: tuple[int, int], input_size: tuple[int, int]) -> Tensor:
    """Return the part ``(..., h', w')`` of logits over the whole input that is not padding."""
    rows, columns = (
        -(-length * side // whole)
        for length, side, whole in zip(content, logits.shape[-2:], input_size, strict=True)
    )
    return logits[..., :rows, :columns]


def _bands(rows: int, elements_per_row: int) -> Iterator[slice]:
    """Split rows into bands of about ``_BAND_ELEMENTS`` elements."""
    step = max(1, _BAND_ELEMENTS // max(1, elements_per_row))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _scaled(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale ``(B, C, h, w)`` bilinearly, with antialiasing when shrinking."""
    if tuple(values.shape[-2:]) == tuple(size):
        return values
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False, antialias=True)


def _lerp_rows(values: Tensor, rows: int, band: slice) -> Tensor:
    """Return a band of the rows of ``(B, T, h, w)`` scaled bilinearly to ``rows`` rows."""
    height = values.shape[-2]
    position = torch.arange(band.start, band.stop, device=values.device, dtype=torch.float64)
    position = ((position + 0.5) * (height / rows) - 0.5).clamp_(0.0, height - 1.0)
    above = position.floor().long()
    below = (above + 1).clamp_(max=height - 1)
    weight = (position - above).to(values.dtype).view(-1, 1)
    return torch.lerp(values.index_select(-2, above), values.index_select(-2, below), weight)
