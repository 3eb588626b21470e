"""Clean up a mask: largest component, minimum size, holes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_fill_holes  # type: ignore[import-untyped]  # ships no types
from skimage.measure import label

from esp_medsam.modality import CleanUp


def clean_up(
    mask: npt.NDArray[np.bool_], rule: CleanUp, voxel_ml: float | None = None
) -> npt.NDArray[np.bool_] | None:
    """Clean a mask as the table says; return None if nothing has to change.

    Components are connected through faces, edges and corners. They are sought only in the mask's
    bounding box, because component numbers take eight bytes per voxel.

    Args:
        mask: Mask with two or three axes; left unchanged.
        rule: What to clean up.
        voxel_ml: Volume of a voxel in milliliters; None if unknown.
    """
    least = rule.least_voxels(voxel_ml)
    if not (rule.largest_component or least > 1 or rule.fill_holes) or not mask.any():
        return None
    box = _bounding_box(mask)
    inside = mask[box]
    if rule.largest_component or least > 1:
        components = label(inside, connectivity=inside.ndim)  # type: ignore[no-untyped-call]
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        kept = sizes >= least
        if rule.largest_component:
            kept &= np.arange(len(sizes)) == sizes.argmax()
        inside = kept[components]
    if rule.fill_holes:
        inside = binary_fill_holes(inside)
    if np.array_equal(inside, mask[box]):
        return None
    cleaned = np.zeros_like(mask)
    cleaned[box] = inside
    return cleaned


def _bounding_box(mask: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return the smallest box around the foreground of a nonempty mask."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        (places,) = np.nonzero(mask.any(axis=others))
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(box)
