"""Measure how well confidence, or the Dice expected from it, tells masks of a low Dice.

    python benchmarks/accuracy/confidence.py CASES.csv [WEIGHTS.calibration.json]

CASES is what ``esp-medsam evaluate --cases`` writes. With a calibration, the expected Dice is
measured, else confidence itself. The area under the ROC curve is of telling masks below LOW; its
interval holds it in 95 % of resamplings of patients. A mask of an absent target has a Dice of 0.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics import compute_roc_auc


LOW = 0.7
"""Dice below which a mask is to be looked at."""

RESAMPLES = 2000
EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Masks(NamedTuple):
    """Masks that were drawn: patients, expected Dice or confidence, and Dice, each ``(N,)``."""

    patients: npt.NDArray[np.str_]
    expected: npt.NDArray[np.float64]
    dice: npt.NDArray[np.float64]


def read_masks(cases: Path, calibration: Path | None) -> Masks:
    """Return the masks that are not empty, and what was to be expected of them."""
    curves = None
    if calibration is not None:
        curves = json.loads(calibration.read_text(encoding="utf-8"))["confidence"]
    rows: list[tuple[str, float, float]] = []
    with cases.open(newline="", encoding="utf-8") as file:
        for case in csv.DictReader(file):
            if not case["confidence"]:
                continue
            expected = float(case["confidence"])
            if curves is not None:
                pairs = curves.get(case["modality"], {}).get(case["target"])
                if not pairs:
                    continue
                known, dice = zip(*pairs, strict=True)
                expected = float(np.interp(expected, known, dice))
            patient = f"{case['dataset']} {case['patient'] or case['image']}"
            rows.append((patient, expected, float(case["dice"])))
    patients, expected_dice, dice_found = zip(*rows, strict=True)
    return Masks(np.array(patients), np.array(expected_dice), np.array(dice_found))


def area(masks: Masks, chosen: npt.NDArray[np.intp]) -> float:
    """Return the area under the ROC curve of some masks: low ones by little to be expected."""
    low = torch.from_numpy((masks.dice[chosen] < LOW).astype(np.float32))
    return float(compute_roc_auc(torch.from_numpy(1 - masks.expected[chosen]), low))


def interval(masks: Masks) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the area, patients drawn whole."""
    random = np.random.default_rng(0)
    _, owner = np.unique(masks.patients, return_inverse=True)
    of_patient = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])
    drawn: Sequence[float] = [
        area(masks, np.concatenate([of_patient[i] for i in random.integers(0, n, n)]))
        for n in [len(of_patient)] * RESAMPLES
    ]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    """Print the area, and the mean Dice by expected Dice."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", type=Path)
    parser.add_argument("calibration", type=Path, nargs="?")
    asked = parser.parse_args()
    masks = read_masks(asked.cases, asked.calibration)
    low, high = interval(masks)
    print(
        f"AUROC for Dice under {LOW}: {area(masks, np.arange(len(masks.dice))):.3f} "
        f"({low:.3f} to {high:.3f}), {len(masks.dice)} masks of "
        f"{len(set(masks.patients))} patients, {(masks.dice < LOW).mean():.0%} under {LOW}"
    )
    what = "confidence" if asked.calibration is None else "expected Dice"
    print(f"| {what} | masks | mean {what} | mean Dice |\n|" + " --- |" * 4)
    for start, end in pairwise(EDGES):
        within = (masks.expected >= start) & (masks.expected < end)
        if within.any():
            means = (masks.expected[within].mean(), masks.dice[within].mean())
            print(f"| {start} to {end} | {within.sum()} | {means[0]:.2f} | {means[1]:.2f} |")


if __name__ == "__main__":
    main()
