"""How well the jump of a mask from slice to slice tells faulty masks from intact ones.

    python benchmarks/slice_jumps.py FOLDER ... [--pattern 'label*.nii.gz'] [--seed 0]

Takes the labels of every label map in the folders as intact masks, makes faults in a random slice
of each, and prints the share of pairs, of an intact and a faulty mask, in which the faulty one has
the higher score (the area under the ROC curve): of the jump in records, and of one minus the
smallest Dice of neighboring slices.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.ndimage import binary_dilation
from sklearn.metrics import roc_auc_score

from esp_medsam.io import read
from esp_medsam.io.labels import as_labels
from esp_medsam.orientation import display_of_image
from esp_medsam.transforms.slice_jump import slice_jumps


Mask = npt.NDArray[np.bool_]
"""Slices, rows, columns."""

LEAST_SLICES, LEAST_VOXELS = 5, 50
"""Smaller masks are left out."""


def masks_in(folders: Sequence[Path], pattern: str) -> Iterator[Mask]:
    """Yield each label as a mask, slices first, with a margin around it within its slices."""
    for path in sorted(path for folder in folders for path in folder.rglob(pattern)):
        stored = read(path, indices=True)
        axis = display_of_image(stored).slice_axis
        labels = None if stored.pixels is None or axis is None else as_labels(stored.pixels[0])
        if labels is None or axis is None:
            continue
        slices = np.moveaxis(labels, axis, 0)
        for value in np.unique(slices)[1:]:
            mask = slices == value
            (filled,) = np.nonzero(mask.any(axis=(1, 2)))
            if len(filled) >= LEAST_SLICES and mask.sum() >= LEAST_VOXELS:
                yield np.pad(mask[filled[0] : filled[-1] + 1], ((0, 0), (30, 30), (30, 30)))


def lost(mask: Mask, index: int) -> None:
    """Lose a slice."""
    mask[index] = False


def lost_twice(mask: Mask, index: int) -> None:
    """Lose two consecutive slices."""
    mask[index : index + 2] = False


def moved(mask: Mask, index: int) -> None:
    """Move a slice by 40 % of its longer side."""
    sides = np.ptp(np.argwhere(mask[index]), axis=0) + 1
    axis = int(sides.argmax())
    mask[index] = np.roll(mask[index], max(2, int(0.4 * sides[axis])), axis)


def halved(mask: Mask, index: int) -> None:
    """Lose half of a slice."""
    rows = np.argwhere(mask[index])[:, 0]
    mask[index, int(rows.mean()) :] = False


def grown(mask: Mask, index: int) -> None:
    """Let a slice grow by a fifth of the side of a square of its area."""
    steps = max(1, int(0.2 * np.sqrt(mask[index].sum())))
    mask[index] = binary_dilation(mask[index], iterations=steps)


def cut(mask: Mask, index: int) -> None:
    """Lose half of the mask from a slice on, which is no jump back and forth."""
    rows = np.argwhere(mask[index])[:, 0]
    mask[index:, int(rows.mean()) :] = False


FAULTS: tuple[Callable[[Mask, int], None], ...] = (lost, lost_twice, moved, halved, grown, cut)


def jump(mask: Mask) -> float:
    """Return the score in records; 0 without one."""
    (found,) = slice_jumps(mask.astype(np.uint8), [1], 0)
    return 0.0 if found is None else found.share


def largest_change(mask: Mask) -> float:
    """Return one minus the smallest Dice of neighboring slices, the ends of the mask left out."""
    (filled,) = np.nonzero(mask.any(axis=(1, 2)))
    slices = mask[filled[0] : filled[-1] + 1]
    return max(float((a ^ b).sum() / max(1, a.sum() + b.sum())) for a, b in pairwise(slices))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--pattern", default="label*.nii.gz")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    intact = list(masks_in(given.folders, given.pattern))
    scores = {score: [score(mask) for mask in intact] for score in (jump, largest_change)}
    faulty: dict[str, list[Mask]] = {fault.__name__: [] for fault in FAULTS}
    for mask in intact:
        (inner,) = np.nonzero(mask[1:-2].any(axis=(1, 2)))
        index = int(random.choice(inner)) + 1
        for fault in FAULTS:
            changed = mask.copy()
            fault(changed, index)
            faulty[fault.__name__].append(changed)
    console = Console()
    quantiles = ", ".join(f"{np.quantile(scores[jump], q):.3f}" for q in (0.5, 0.9, 0.95, 1))
    console.print(f"{len(intact)} intact masks; jumps at 50, 90, 95 and 100 %: {quantiles}")
    table = Table("fault", *(score.__name__ for score in scores))
    for name, masks in faulty.items():
        truth = [0] * len(intact) + [1] * len(masks)
        areas = (
            roc_auc_score(truth, [*known, *(score(mask) for mask in masks)])
            for score, known in scores.items()
        )
        table.add_row(name, *(f"{area:.3f}" for area in areas))
    console.print(table)


if __name__ == "__main__":
    main()
