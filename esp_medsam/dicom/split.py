"""Which slices of a series belong together: cine, echoes, b-values, phases, localizers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from esp_medsam.dicom.geometry import closest, depths
from esp_medsam.dicom.volume import DicomSlice
from esp_medsam.dicom.volume_names import LOCALIZER, NO_VALUE, Split, natural


_K = TypeVar("_K", bound=Hashable)

ATTRIBUTES = (
    "StackID",
    "AcquisitionNumber",
    "FrameAcquisitionNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "NominalPercentageOfCardiacPhase",
    "TemporalPositionTimeOffset",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "InversionTime",
    "FlipAngle",
    "ConvolutionKernel",
    "ImageType",
    "FrameType",
    "ComplexImageComponent",
    "AcquisitionTime",
    "FrameAcquisitionDateTime",
    "ContentTime",
)
"""What tells slices at one place apart, in this order.

Image types come before the times of day: a magnitude and a phase image of one slice are computed at
times of their own, and a split by time could mix the two.
"""

_TIMES = (
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "TemporalPositionTimeOffset",
    "AcquisitionTime",
    "FrameAcquisitionDateTime",
    "ContentTime",
    "InstanceNumber",
)
"""What may differ from slice to slice of one phase: only its rank at a place tells the phase."""

_OWN_ORIENTATION = 0.02
"""Difference of direction cosines, about one degree, from which slices are another volume's."""


def split_series(slices: Sequence[DicomSlice]) -> list[tuple[Split, tuple[DicomSlice, ...]]]:
    """Return the volumes among the slices of one series, each with what it was told by.

    Localizers, and slices turned more than about one degree against the others, are volumes of
    their own. What is left is split only where slices would lie at one place: by the first of
    `ATTRIBUTES` that differs there, and so on. Where only times, or numbers of instances, differ
    and each place holds the same number of slices, they are split by the rank at their place.

    Args:
        slices: Slices of a series, in any order.

    Returns:
        Volumes, sorted by what they were told by. Slices that still lie at one place, or state no
        position, are left together.
    """
    volumes = [
        (localizer + orientation + attributes, part)
        for localizer, kind in _by_localizer(slices)
        for orientation, plane in _by_orientation(kind)
        for attributes, part in _by_attributes(plane, _attributes(plane))
    ]
    return sorted(volumes, key=lambda volume: [natural(value) for _, value in volume[0]])


def _by_localizer(slices: Sequence[DicomSlice]) -> list[tuple[Split, tuple[DicomSlice, ...]]]:
    groups = _grouped(slices, [LOCALIZER in part.image_type for part in slices])
    if len(groups) == 1:
        return [((), tuple(slices))]
    return [((), groups[False]), ((("ImageType", LOCALIZER),), groups[True])]


def _by_orientation(slices: Sequence[DicomSlice]) -> list[tuple[Split, tuple[DicomSlice, ...]]]:
    """Keep what is turned alike together, in chains; each group is told by its first."""
    if any(part.orientation is None for part in slices):
        return [((), tuple(slices))]
    unique = sorted({part.orientation for part in slices if part.orientation is not None})
    cosines = np.array(unique)
    labels = np.full(len(unique), -1)
    for start in range(len(unique)):
        pending = [start] if labels[start] < 0 else []
        while pending:
            k = pending.pop()
            labels[k] = start
            near = np.abs(cosines - cosines[k]).max(axis=1) <= _OWN_ORIENTATION
            pending += np.flatnonzero(near & (labels < 0)).tolist()
    if len(set(labels.tolist())) == 1:
        return [((), tuple(slices))]
    label_of = dict(zip(unique, labels.tolist(), strict=True))
    groups = _grouped(slices, [label_of[part.orientation] for part in slices if part.orientation])
    return [
        ((("ImageOrientationPatient", "\\".join(f"{c + 0:.3g}" for c in unique[label])),), group)
        for label, group in groups.items()
    ]


def _attributes(slices: Sequence[DicomSlice]) -> tuple[str, ...]:
    """Return what may tell these slices apart: ours in their order, then a file's own."""
    stated = dict.fromkeys(keyword for part in slices for keyword, _ in part.dimensions)
    own = tuple(keyword for keyword in stated if keyword not in ATTRIBUTES + _TIMES)
    return tuple(keyword for keyword in ATTRIBUTES if keyword in stated) + own


def _by_attributes(
    slices: Sequence[DicomSlice], attributes: tuple[str, ...]
) -> list[tuple[Split, tuple[DicomSlice, ...]]]:
    alone: list[tuple[Split, tuple[DicomSlice, ...]]] = [((), tuple(slices))]
    if any(part.position is None or part.orientation is None for part in slices):
        return alone
    places = _places(slices)
    if np.bincount(places).max() == 1:
        return alone
    for k, keyword in enumerate(attributes):
        values = [dict(part.dimensions).get(keyword, "") for part in slices]
        if _tells_apart(values, places, any_number=keyword == "StackID"):
            return [
                (((keyword, value or NO_VALUE), *split), part)
                for value, group in _grouped(slices, values).items()
                for split, part in _by_attributes(group, attributes[k + 1 :])
            ]
    return _by_rank(slices, places) or alone


def _tells_apart(values: Sequence[str], places: npt.NDArray[np.intp], *, any_number: bool) -> bool:
    """Whether slices at one place differ in it, and it does not number the slices themselves."""
    pairs = set(zip(places.tolist(), values, strict=True))
    kinds, held = len(set(values)), len(set(places.tolist()))
    most = int(np.bincount(places).max())
    return len(pairs) > held and (any_number or held == 1 or kinds <= 2 * most)


def _by_rank(
    slices: Sequence[DicomSlice], places: npt.NDArray[np.intp]
) -> list[tuple[Split, tuple[DicomSlice, ...]]]:
    """Split by the rank of a time among the slices at one place; empty where none allows it."""
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
        return [(((keyword, name),), part) for name, part in _grouped(slices, names).items()]
    return []


def _places(slices: Sequence[DicomSlice]) -> npt.NDArray[np.intp]:
    """Number the places that slices lie at: those at one place have one number."""
    along = depths(slices)
    order = np.argsort(along, kind="stable")
    numbers = np.concatenate([[0], np.cumsum(np.diff(along[order]) >= closest(slices))])
    places = np.empty(len(slices), dtype=np.intp)
    places[order] = numbers
    return places


def _grouped(slices: Sequence[DicomSlice], keys: Sequence[_K]) -> dict[_K, tuple[DicomSlice, ...]]:
    groups: defaultdict[_K, list[DicomSlice]] = defaultdict(list)
    for part, key in zip(slices, keys, strict=True):
        groups[key].append(part)
    return {key: tuple(group) for key, group in groups.items()}
