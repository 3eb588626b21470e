"""Fit the expected Dice of masks to their confidence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.optimize import isotonic_regression  # type: ignore[import-untyped]  # ships no types

from esp_medsam.workflows.case_score import TargetScore


CASES = 20
"""Minimum number of masks for a target's or modality's own curve, else a wider group's."""


def confidence_curves(
    scores: Iterable[TargetScore],
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Learn the mean Dice of masks as a function of their confidence, by isotonic regression.

    Masks of absent targets count with a Dice of 0. A target with fewer than :data:`CASES` masks
    gets the curve of its modality; a modality with fewer gets the overall curve.

    Args:
        scores: Scores of validation images; see :func:`~esp_medsam.workflows.evaluate.CaseScorer`.

    Returns:
        Pairs of confidence and Dice, both rising, for each target of each modality.

    Reference:
        Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability
        estimates", KDD 2002.
    """
    found = [score for score in scores if score.confidence is not None]
    by_target: dict[tuple[str, str], list[TargetScore]] = defaultdict(list)
    by_modality: dict[str, list[TargetScore]] = defaultdict(list)
    for score in found:
        by_target[score.modality, score.target].append(score)
        by_modality[score.modality].append(score)
    curves: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(dict)
    for (modality, target), own in by_target.items():
        groups = (own, by_modality[modality], found)
        group = next((each for each in groups if len(each) >= CASES), None)
        if group is not None:
            curves[modality][target] = _rising([(s.confidence or 0.0, s.dice) for s in group])
    return dict(curves)


def _rising(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of the rising curve that fits the pairs best, by least squares."""
    confidence, dice = np.array(pairs).round(4).T
    known, place, count = np.unique(confidence, return_inverse=True, return_counts=True)
    mean = np.bincount(place, dice) / count
    levels = isotonic_regression(mean, weights=count).x.round(4)
    inner = np.r_[False, (levels[:-2] == levels[1:-1]) & (levels[1:-1] == levels[2:]), False]
    corners = np.ones(len(known), bool) if len(known) < 3 else ~inner  # both ends per level
    return list(zip(known[corners].tolist(), levels[corners].tolist(), strict=True))
