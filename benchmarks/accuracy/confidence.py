"""Measure how well confidence, or the Dice expected from it, tells masks of a low Dice.

    python benchmarks/accuracy/confidence.py CASES.csv [WEIGHTS.calibration.json] [--plot OUT.svg]

CASES is what ``esp-medsam evaluate --cases`` writes. With a calibration, the expected Dice is
measured, else confidence itself. The area under the ROC curve is of telling masks below LOW; its
interval holds it in 95 % of resamplings of patients. A mask of an absent target has a Dice of 0.
The plot shows how reliable it is, and how 1 - Dice falls when the least sure masks are left out.
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

LIMITS = (0.7, 0.8, 0.85, 0.9, 0.95)
RESAMPLES = 2000
EDGES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


class Masks(NamedTuple):
    """Masks that were drawn, each ``(N,)``.

    Attributes:
        patients: Whose image it is.
        present: Whether the target is in the image.
        expected: Expected Dice or confidence.
        dice: Dice.
    """

    patients: npt.NDArray[np.str_]
    present: npt.NDArray[np.bool_]
    expected: npt.NDArray[np.float64]
    dice: npt.NDArray[np.float64]


def read_masks(cases: Path, calibration: Path | None) -> Masks:
    """Return the masks that are not empty, and what was to be expected of them."""
    curves = None
    if calibration is not None:
        curves = json.loads(calibration.read_text(encoding="utf-8"))["confidence"]
    rows: list[tuple[str, bool, float, float]] = []
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
            rows.append((patient, case["present"] == "True", expected, float(case["dice"])))
    return Masks(*(np.array(column) for column in zip(*rows, strict=True)))


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


def bins(masks: Masks) -> list[tuple[float, float, int, float, float]]:
    """Return the ends of each bin that holds masks, their number, and both means."""
    found = []
    for start, end in pairwise(EDGES):
        within = (masks.expected >= start) & (masks.expected < end)
        if within.any():
            means = float(masks.expected[within].mean()), float(masks.dice[within].mean())
            found.append((start, end, int(within.sum()), *means))
    return found


def print_limits(masks: Masks) -> None:
    """Print what a reader would be shown who looks at the masks below a limit."""
    print("| limit | masks below it | of these, low | found of all low |\n|" + " --- |" * 4)
    is_low = masks.dice < LOW
    for limit in LIMITS:
        below = masks.expected < limit
        shares = below.mean(), is_low[below].mean(), below[is_low].mean()
        print(f"| {limit:.2f} | " + " | ".join(f"{share:.0%}" for share in shares) + " |")


def plot(masks: Masks, what: str, path: Path) -> None:
    """Draw reliability, and risk against coverage."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "confidence"
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    _, _, counts, expected, dice = zip(*bins(masks), strict=True)
    left.plot([0.5, 1], [0.5, 1], color="#9aa5b1", linestyle="--", label="as expected")
    left.plot(expected, dice, marker="o", color="#2b6cb0", label="measured")
    for x, y, count in zip(expected, dice, counts, strict=True):
        left.annotate(f"{count}", (x, y), xytext=(-4, 7), textcoords="offset points", ha="right")
    left.set(xlabel=f"mean {what}", ylabel="mean Dice", title="Reliability (number of masks)")
    share = np.arange(1, len(masks.dice) + 1) / len(masks.dice)
    orders = {f"by {what}": masks.expected, "the best order": masks.dice}
    for (label, key), style in zip(orders.items(), ("-", "--"), strict=True):
        risk = 1 - masks.dice[np.argsort(-key, kind="stable")]
        color = "#2b6cb0" if style == "-" else "#9aa5b1"
        right.plot(share, np.cumsum(risk) / np.arange(1, len(risk) + 1), style, color=color)
        right.lines[-1].set_label(label)
    right.set(xlabel="share of masks kept", ylabel="mean 1 - Dice", title="Risk and coverage")
    for axes in (left, right):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print the area, and the mean Dice by expected Dice."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", type=Path)
    parser.add_argument("calibration", type=Path, nargs="?")
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    masks = read_masks(asked.cases, asked.calibration)
    low, high = interval(masks)
    print(
        f"AUROC for Dice under {LOW}: {area(masks, np.arange(len(masks.dice))):.3f} "
        f"({low:.3f} to {high:.3f}), {len(masks.dice)} masks of "
        f"{len(set(masks.patients))} patients, {(masks.dice < LOW).mean():.0%} under {LOW}"
    )
    present = np.flatnonzero(masks.present)
    print(f"AUROC where the target is present: {area(masks, present):.3f}, {len(present)} masks")
    what = "confidence" if asked.calibration is None else "expected Dice"
    print(f"| {what} | masks | mean {what} | mean Dice |\n|" + " --- |" * 4)
    for start, end, count, expected, dice in bins(masks):
        print(f"| {start} to {end} | {count} | {expected:.2f} | {dice:.2f} |")
    print_limits(masks)
    if asked.plot is not None:
        plot(masks, what, asked.plot)


if __name__ == "__main__":
    main()
