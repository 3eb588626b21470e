"""Split a series into volumes: cines, echoes, b-values, phases, localizers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from esp_medsam.dicom.dimensions import ATTRIBUTES
from esp_medsam.dicom.geometry import TURNED, closest, depths
from esp_medsam.dicom.interleave import lie_between
from esp_medsam.dicom.stations import chain_labels, stations
from esp_medsam.dicom.volume import DicomSlice
from esp_medsam.dicom.volume_names import LOCALIZER, Split, natural


_K = TypeVar("_K", bound=Hashable)

_TIMES = (
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "TemporalPositionTimeOffset",
    "AcquisitionTime",
    "FrameAcquisitionDateTime",
    "ContentTime",
    "InstanceNumber",
)
"""Attributes that may differ between slices of one phase; only the rank at a place tells it."""

_OF_DAY = ("AcquisitionTime", "FrameAcquisitionDateTime", "ContentTime")
"""Times of day, which also alternate within one volume if a scanner takes every other slice."""


class Part(NamedTuple):
    """One volume among the slices of a series.

    Attributes:
        split: Attributes and values that distinguish it.
        slices: Its slices, in any order.
        between: Attribute that separates it, or would without the user's join, from volumes that
            it is interleaved with; empty if there are none.
    """

    split: Split
    slices: tuple[DicomSlice, ...]
    between: str = ""


def split_series(
    slices: Sequence[DicomSlice], *, interleaved: bool = False
) -> list[tuple[Split, tuple[DicomSlice, ...]]]:
    """Return the volumes among the slices of one series, each with its distinguishing values.

    See :func:`parts_of`.
    """
    return [(part.split, part.slices) for part in parts_of(slices, interleaved=interleaved)]


def parts_of(slices: Sequence[DicomSlice], *, interleaved: bool = False) -> list[Part]:
    """Return the volumes among the slices of one series.

    Localizers, slices turned more than about one degree against the others, and slices of another
    table station form separate volumes. The rest is split if several slices lie at one place: by
    the first of `ATTRIBUTES` that differs there, then the next, and so on. If only times or
    instance numbers differ and each place holds the same number of slices, slices are split by
    their rank at their place. Interleaved volumes are split by the first attribute, except times of
    day, for which :func:`lie_between` is true.

    Args:
        slices: Slices of a series, in any order.
        interleaved: Whether interleaved slices are one volume, whatever they state.

    Returns:
        Volumes, sorted by their distinguishing values. Slices that still share a place, or state
        no position, stay together.
    """
    parts = [
        part._replace(split=localizer + orientation + station + part.split)
        for localizer, kind in _by_localizer(slices)
        for orientation, plane in _by_orientation(kind)
        for station, block in _by_station(plane)
        for part in _by_attributes(block, _attributes(block), interleaved=interleaved)
    ]
    return sorted(parts, key=lambda part: [natural(value) for _, value in part.split])


def count_places(slices: Sequence[DicomSlice]) -> int:
    """Return the number of places of slices along their normal; 0 if one states no place."""
    if any(part.position is None or part.orientation is None for part in slices):
        return 0
    return int(_places(slices)[1].max()) + 1


def _by_localizer(slices: Sequence[DicomSlice]) -> list[tuple[Split, tuple[DicomSlice, ...]]]:
    groups = _groups_by_key(slices, [LOCALIZER in part.image_type for part in slices])
    if len(groups) == 1:
        return [((), tuple(slices))]
    return [((), groups[False]), ((("ImageType", LOCALIZER),), groups[True])]


def _by_orientation(slices: Sequence[DicomSlice]) -> list[tuple[Split, tuple[DicomSlice, ...]]]:
    """Group slices by orientation, in chains; each group is named by its first orientation."""
    if any(part.orientation is None for part in slices):
        return [((), tuple(slices))]
    unique = sorted({part.orientation for part in slices if part.orientation is not None})
    labels = chain_labels(np.array(unique), TURNED)
    if len(set(labels.tolist())) == 1:
        return [((), tuple(slices))]
    label_of = dict(zip(unique, labels.tolist(), strict=True))
    groups = _groups_by_key(
        slices, [label_of[part.orientation] for part in slices if part.orientation]
    )
    return [
        ((("ImageOrientationPatient", "\\".join(f"{c + 0:.3g}" for c in unique[label])),), group)
        for label, group in groups.items()
    ]


def _by_station(
    slices: Sequence[DicomSlice], places: npt.NDArray[np.intp] | None = None
) -> list[tuple[Split, tuple[DicomSlice, ...]]]:
    """Group slices by station; each group is named by an attribute value or its position."""
    if any(part.position is None or part.orientation is None for part in slices):
        return [((), tuple(slices))]
    labels = stations(slices, places).tolist()
    groups = _groups_by_key(slices, labels)
    if len(groups) == 1:
        return [((), tuple(slices))]
    for keyword in _attributes(slices):
        values = [dict(part.dimensions).get(keyword, "") for part in slices]
        pairs = set(zip(labels, values, strict=True))
        if len(pairs) == len(groups) == len(set(values)) and keyword not in _OF_DAY:
            told = dict(pairs)
            return [(((keyword, told[k]),), group) for k, group in groups.items()]
    return [((("ImagePositionPatient", _first(group)),), group) for group in groups.values()]


def _first(slices: Sequence[DicomSlice]) -> str:
    """Return the position of the first slice along the normal."""
    position = slices[int(np.argmin(depths(slices)))].position or ()
    return "\\".join(f"{c + 0:.6g}" for c in position)


def _attributes(slices: Sequence[DicomSlice]) -> tuple[str, ...]:
    """Return attributes that may distinguish these slices: `ATTRIBUTES` first, then a file's."""
    stated = dict.fromkeys(keyword for part in slices for keyword, _ in part.dimensions)
    own = tuple(keyword for keyword in stated if keyword not in ATTRIBUTES + _TIMES)
    return tuple(keyword for keyword in ATTRIBUTES if keyword in stated) + own


def _by_attributes(
    slices: Sequence[DicomSlice], attributes: tuple[str, ...], *, interleaved: bool
) -> list[Part]:
    whole = [Part((), tuple(slices))]
    if any(part.position is None or part.orientation is None for part in slices):
        return whole
    along, places = _places(slices)
    dimensions = [dict(part.dimensions) for part in slices]
    stated = {keyword: [d.get(keyword, "") for d in dimensions] for keyword in attributes}
    between, by_rank = "", list[tuple[Split, tuple[DicomSlice, ...]]]()
    keyword = ""
    if np.bincount(places).max() > 1:
        keyword = next((k for k in attributes if _tells_apart(k, stated[k], places)), "")
        beside = [] if keyword else _by_station(slices, places)
        if len(beside) > 1:
            return [
                part._replace(split=station + part.split)
                for station, group in beside
                for part in _by_attributes(group, attributes, interleaved=interleaved)
            ]
        by_rank = [] if keyword else _by_rank(slices, places)
    if not (keyword or by_rank):
        timeless = (k for k in attributes if k not in _OF_DAY)
        between = next((k for k in timeless if lie_between(stated[k], along, places)), "")
        keyword = "" if interleaved else between
        whole = [Part((), tuple(slices), between)]
    if not keyword:
        return [Part(split, part) for split, part in by_rank] or whole
    rest = tuple(other for other in attributes if other != keyword)
    return [
        part._replace(split=((keyword, value), *part.split), between=part.between or between)
        for value, group in _groups_by_key(slices, stated[keyword]).items()
        for part in _by_attributes(group, rest, interleaved=interleaved)
    ]


def _tells_apart(keyword: str, values: Sequence[str], places: npt.NDArray[np.intp]) -> bool:
    """Whether slices at one place differ in an attribute that does not merely number slices."""
    any_number = keyword == "StackID"
    pairs = set(zip(places.tolist(), values, strict=True))
    kinds, held = len(set(values)), len(set(places.tolist()))
    most = int(np.bincount(places).max())
    return len(pairs) > held and (any_number or held == 1 or kinds <= 2 * most)


def _by_rank(
    slices: Sequence[DicomSlice], places: npt.NDArray[np.intp]
) -> list[tuple[Split, tuple[DicomSlice, ...]]]:
    """Split by the rank of a time among the slices at one place; empty if no time allows it."""
    phases = set(np.bincount(places).tolist())
    if len(phases) != 1:
        return []
    count = phases.pop()
    for keyword in _TIMES:
        values = [dict(part.dimensions).get(keyword, "") for part in slices]
        pairs = set(zip(places.tolist(), values, strict=True))
        if "" in values or len(pairs) != len(slices):
            continue
        order = sorted(range(len(slices)), key=lambda k: (places[k], natural(values[k])))
        ranks = [0] * len(slices)
        for place, k in enumerate(order):
            ranks[k] = place % count + 1
        width = len(str(count))
        names = [f"phase{rank:0{width}d}" for rank in ranks]
        return [(((keyword, name),), part) for name, part in _groups_by_key(slices, names).items()]
    return []


def _places(
    slices: Sequence[DicomSlice],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Return the depths of slices in mm, and the number of the place that each lies at."""
    along = depths(slices)
    order = np.argsort(along, kind="stable")
    numbers = np.concatenate([[0], np.cumsum(np.diff(along[order]) >= closest(slices))])
    places = np.empty(len(slices), dtype=np.intp)
    places[order] = numbers
    return along, places


def _groups_by_key(
    slices: Sequence[DicomSlice], keys: Sequence[_K]
) -> dict[_K, tuple[DicomSlice, ...]]:
    groups: defaultdict[_K, list[DicomSlice]] = defaultdict(list)
    for part, key in zip(slices, keys, strict=True):
        groups[key].append(part)
    return {key: tuple(group) for key, group in groups.items()}
