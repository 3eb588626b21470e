"""Detect volumes of one series whose slices are interleaved.

Two acquisitions, the second shifted by half a gap, fill each other's gaps: together they look like
one even stack of half the spacing. An attribute whose values do not form a single run along the
stack tells them apart. An attribute that changes once, or in runs, belongs to a stack of several
blocks, and an attribute that is unique to each slice only numbers the slices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice, pairwise, takewhile

import numpy as np
import numpy.typing as npt


Array = npt.NDArray[np.float64]

_HOLE = 1.5
"""Multiple of the median gap above which a gap has room for a slice."""

_MOST_PAIRS = 4000
"""Most pairs of values examined, so that a search among hundreds of nested ones ends in time."""

_FEWEST_OF_BLOCK = 3
"""Most values for which they always identify volumes, rather than number slices of blocks."""

_EVEN = 1e-2
"""Fraction of the median gap within which gaps belong to one stack."""

_Span = tuple[float, float]


def lie_between(values: Sequence[str], along: Array, places: npt.NDArray[np.intp]) -> bool:
    """Whether an attribute distinguishes volumes whose slices are interleaved.

    At least two values must each have slices between those of the other. The attribute does not
    qualify if splitting by it would tear holes into a stack that has none, or if it has many
    values of few slices each, unless these lie in clusters.

    Args:
        values: Value of the attribute for each slice.
        along: Position of each slice along the normal, in mm.
        places: Index of the place of each slice, counted along the normal; slices at the same
            place share an index.
    """
    held: defaultdict[str, list[int]] = defaultdict(list)
    for k in np.argsort(along, kind="stable").tolist():
        held[values[k]].append(k)
    holes = _spans(along, places, _HOLE)
    few = len(held) <= 2 * min(map(len, held.values()))
    # Volumes that follow a moving head may be many, but lie in clusters: all their gaps contain
    # the end of a cluster. The last check below costs most if an attribute has many values.
    torn = _HOLE if few else 0.0
    return (
        len(held) > 1
        and (few or bool(holes))
        and not (len(held) > _FEWEST_OF_BLOCK and _numbers_blocks(held, along, places))
        and not any(_is_torn(_spans(along[s], places[s], torn), holes) for s in held.values())
        and _any_mutual(held, places)
    )


def _any_mutual(held: dict[str, list[int]], places: npt.NDArray[np.intp]) -> bool:
    """Whether two values have slices between those of each other."""
    spans = {value: places[slices] for value, slices in held.items() if len(slices) > 1}
    ordered = sorted(spans.values(), key=lambda span: int(span[0]))
    pairs = (
        (first, second)
        for k, first in enumerate(ordered)
        for second in takewhile(lambda span: span[0] < first[-1], ordered[k + 1 :])  # noqa: B023
    )
    return any(
        _is_within(first, second) and _is_within(second, first)
        for first, second in islice(pairs, _MOST_PAIRS)
    )


def _is_within(first: npt.NDArray[np.intp], second: npt.NDArray[np.intp]) -> bool:
    """Whether a slice of the first lies between slices of the second, but not at their places."""
    inside = first[(first > second[0]) & (first < second[-1])]
    return bool(np.setdiff1d(inside, second).size)


def _spans(along: Array, places: npt.NDArray[np.intp], least: float) -> list[_Span]:
    """Return the gaps between places that are at least ``least`` times their median."""
    heights = along[np.unique(places, return_index=True)[1]]
    gaps = np.diff(heights)
    if not gaps.size:
        return []
    median = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    return [span for span in pairwise(heights.tolist()) if span[1] - span[0] >= least * median]


def _numbers_blocks(held: dict[str, list[int]], along: Array, places: npt.NDArray[np.intp]) -> bool:
    """Whether values number slices of evenly spaced blocks, each with any value at most once.

    In clusters of volumes that follow a moving head, the motion makes places uneven.
    """
    gaps = np.array([high - low for low, high in _spans(along, places, 0.0)])
    median = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    inner = gaps[gaps < _HOLE * median]
    if inner.size == gaps.size or (np.abs(inner - median) > _EVEN * median).any():
        return False
    block = np.concatenate([[0], np.cumsum(gaps >= _HOLE * median)])[places]
    return all(len(set(block[slices].tolist())) == len(slices) for slices in held.values())


def _is_torn(own: Sequence[_Span], of_all: Sequence[_Span]) -> bool:
    """Whether a part has a gap or hole that contains no hole of the whole."""
    return any(not any(low <= a and b <= high for a, b in of_all) for low, high in own)
