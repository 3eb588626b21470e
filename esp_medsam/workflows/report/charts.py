"""Histograms of what was found, as the page draws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from esp_medsam.workflows.report.case import Case, Found


WIDTH, HEIGHT = 240, 72
"""Size of a histogram, in pixels."""

BINS = 24
MOST_TARGETS = 24
"""Most targets whose histograms are drawn; the table has all."""


class Column(NamedTuple):
    """A target of the report: a column of its table, and histograms.

    Attributes:
        modality: Name of the modality.
        target: Name of the target.
        unit: What its size is measured in: ``ml``, ``mm2`` or ``pixels``.
        cases: Number of results in which it was looked for.
        found: Number of those in which something was found.
    """

    modality: str
    target: str
    unit: str
    cases: int
    found: int


class Bar(NamedTuple):
    """A bar of a histogram.

    Attributes:
        x: Left side, in pixels.
        width: In pixels.
        height: In pixels.
        about: What it counts, in words.
    """

    x: float
    width: float
    height: float
    about: str


class Histogram(NamedTuple):
    """A histogram.

    Attributes:
        title: What is counted.
        bars: The bars that are not empty.
        low: Value at the left, in words.
        high: Value at the right, in words.
        median: Median of the values, in words.
    """

    title: str
    bars: list[Bar]
    low: str
    high: str
    median: str


def columns_of(cases: Sequence[Case]) -> list[Column]:
    """Return the targets of a report, by modality, in the order of their records."""
    held: dict[tuple[str, str], list[Found]] = {}
    for case in sorted(cases, key=lambda case: case.modality):
        for found in case.targets:
            held.setdefault((case.modality, found.name), []).append(found)
    return [
        Column(*place, _unit(found), len(found), sum(bool(one.voxels) for one in found))
        for place, found in held.items()
    ]


def size_of(found: Found, unit: str) -> float | None:
    """Return how much of a target was found, in the unit of its column."""
    values = {"ml": found.ml, "mm2": found.area_mm2, "pixels": found.voxels}
    return values[unit]


def _unit(found: Sequence[Found]) -> str:
    """Return the unit that says most and that any result states."""
    units = ("ml", "mm2", "pixels")
    return next((u for u in units if any(size_of(one, u) is not None for one in found)), "pixels")


def histograms(cases: Sequence[Case], column: Column) -> Iterator[Histogram]:
    """Yield the histograms of a target: confidence, and size where something was found."""
    place = (column.modality, column.target)
    found = [
        one
        for case in cases
        for one in case.targets
        if (case.modality, one.name) == place and one.voxels
    ]
    confidence = [one.confidence for one in found if one.confidence is not None]
    sizes = [size for one in found if (size := size_of(one, column.unit)) is not None]
    if confidence:
        yield histogram("confidence", confidence, (min(0.5, *confidence), 1.0))
    if sizes:
        unit = {"mm2": "mm\u00b2"}.get(column.unit, column.unit)
        yield histogram(unit, sizes, (0.0, max(sizes)))


def histogram(title: str, values: Sequence[float], limits: tuple[float, float]) -> Histogram:
    """Return the histogram of values.

    Args:
        title: What is counted.
        values: The values, at least one.
        limits: Values at the left and at the right.
    """
    low, high = limits
    high = high if high > low else low + 1.0
    counts, edges = np.histogram(np.clip(values, low, high), BINS, (low, high))
    step = WIDTH / BINS
    bars = [
        Bar(
            round(place * step, 1),
            round(step - 1, 1),
            round(max(2.0, HEIGHT * int(count) / int(counts.max())), 1),
            f"{count} of {len(values)}: {shown(edges[place])} to {shown(edges[place + 1])}",
        )
        for place, count in enumerate(counts)
        if count
    ]
    return Histogram(title, bars, shown(low), shown(high), shown(float(np.median(values))))


def shown(value: float) -> str:
    """Return a number with three digits that count, or all of a large one."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
