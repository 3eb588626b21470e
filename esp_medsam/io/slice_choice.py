"""Choose the slices of a volume that a picture shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from esp_medsam.image import Image
from esp_medsam.orientation import PLANES, Display, display_of, display_of_image, plane_of
from esp_medsam.transforms.label_boxes import label_boxes


TILES = 9
"""Slices of a volume that are shown if no target says which."""

LEAST = 8
"""Fewest voxels along both sides of a slice that cuts across the segmented ones."""


@dataclass(frozen=True)
class Cut:
    """One slice of a volume.

    Attributes:
        display: How slices are taken and turned.
        index: Index of the slice.
        plane: ``axial``, ``coronal``, ``sagittal``, or ``frame`` without positions.
        reason: Why it is shown, in words.
    """

    display: Display
    index: int
    plane: str
    reason: str


Profile = tuple[npt.NDArray[np.int64], ...]
"""Number of voxels in each slice along each axis."""


def profiles(labelmap: npt.NDArray[np.uint8]) -> dict[int, Profile]:
    """Return the profile of each nonzero label, slice by slice to hold no second volume."""
    found: dict[int, Profile] = {}
    for label, box in enumerate(label_boxes(labelmap), start=1):
        if box is None:
            continue
        profile = tuple(np.zeros(length, np.int64) for length in labelmap.shape)
        for index, one in enumerate(labelmap[box], start=box[0].start):
            mask = one == label
            profile[0][index] = np.count_nonzero(mask)
            for axis in range(1, labelmap.ndim):
                others = tuple(other for other in range(mask.ndim) if other != axis - 1)
                profile[axis][box[axis]] += np.count_nonzero(mask, axis=others)
        found[label] = profile
    return found


def cuts_through(
    record: Image, slice_axis: str | None, profile: Profile | None, jump: int | None = None
) -> list[Cut]:
    """Return the slices that show a target best: three planes, then its slices that matter.

    Args:
        record: Record of the volume.
        slice_axis: As for the inferer.
        profile: Profile of the target; None shows the middle of the volume.
        jump: Index of the slice in which the mask jumps most; None if it does not jump.
    """
    own = display_of_image(record, slice_axis)
    assert own.slice_axis is not None, "a volume has one"
    sizes = None if profile is None else profile[own.slice_axis]
    cuts = _planes(record, own, profile)
    taken = {cut.index for cut in cuts if cut.display == own}
    plane = plane_of(record, own) or "frame"
    for index, reason in _that_matter(sizes, record.grid.shape[own.slice_axis], jump):
        if index not in taken:
            cuts.append(Cut(own, index, plane, reason))
            taken.add(index)
    return cuts


def _planes(record: Image, own: Display, profile: Profile | None) -> list[Cut]:
    """Return the largest, or middle, slice of each plane; only the segmented one without more."""
    grid = record.grid
    displays = [own]
    if grid.affine is not None:
        across = [display_of(grid.shape, grid.affine, plane) for plane in sorted(PLANES)]
        displays = [d for d in across if d.slice_axis == own.slice_axis or _is_wide(d, grid.shape)]
    cuts = []
    for display in displays:
        assert display.slice_axis is not None, "a volume has one"
        middle = grid.shape[display.slice_axis] // 2
        index = middle if profile is None else int(profile[display.slice_axis].argmax())
        reason = "middle" if profile is None else "largest"
        cuts.append(Cut(display, index, plane_of(record, display) or "frame", reason))
    return cuts


def _is_wide(display: Display, shape: tuple[int, ...]) -> bool:
    return min(display.shown(shape)) >= LEAST


def _that_matter(
    sizes: npt.NDArray[np.int64] | None, count: int, jump: int | None
) -> list[tuple[int, str]]:
    """Return slices along the axis of segmentation, each with the reason, in their order."""
    if sizes is None:
        return [
            (count // 4, "a quarter"),
            (count // 2, "middle"),
            (3 * count // 4, "three quarters"),
        ]
    filled = np.flatnonzero(sizes)
    first, last = (int(filled[int(share * (len(filled) - 1))]) for share in (0.2, 0.8))
    chosen = [
        (first, "first fifth"),
        (int(sizes.argmax()), "largest"),
        (last, "last fifth"),
    ]
    if jump is not None:
        chosen.append((jump, "largest jump"))
    return chosen


def spread_indices(count: int, most: int) -> list[int]:
    """Return up to ``most`` of ``count`` indices, in order, evenly spread, away from the ends."""
    return sorted({int((place + 0.5) * count / most) for place in range(most)})
