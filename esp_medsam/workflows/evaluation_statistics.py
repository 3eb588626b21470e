"""Intervals by resampling patients, tests of paired differences, and quality of confidence.

All images of a patient are drawn together: they resemble each other, and counting them as
independent would make intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap, wilcoxon  # type: ignore[import-untyped]  # no stubs in use


CONFIDENCE_LEVEL = 0.95

BATCH_VALUES = 2**22
"""Number of resampled values held at a time: 32 MB."""

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """Range in which the mean would lie for other patients of the same kind."""

    low: float
    high: float


class RiskCoverage(NamedTuple):
    """Growth of the mean risk with the share of cases kept, most confident cases first.

    Attributes:
        coverage: Share of cases that are kept, ``1/n`` to 1.
        risk: Mean risk of the kept cases.
        area: Mean of ``risk``.
        best_area: Lowest possible area, with cases sorted by their risk itself.
    """

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    area: float
    best_area: float


class Bin(NamedTuple):
    """Cases of similar confidence.

    Attributes:
        cases: Number of cases.
        confidence: Their mean confidence.
        precision: Mean share of the found voxels that is true.
    """

    cases: int
    confidence: float
    precision: float


def mean_interval(
    values: Sequence[float], groups: Sequence[Hashable], *, resamples: int, seed: int
) -> Interval | None:
    """Return the 95 % percentile-bootstrap interval of a mean.

    Args:
        values: One value per case.
        groups: Group that each case is drawn with, such as its patient.
        resamples: Number of resamples; each draws as many groups as there are, with replacement.
        seed: Seed of the resampling.

    Returns:
        The interval; None for fewer than two groups, which say nothing about others.
    """
    sums, counts = _by_group(values, groups)
    if len(sums) < 2:  # one group cannot vary
        return None
    found = bootstrap(
        (sums, counts),
        lambda drawn, sizes, axis: drawn.sum(axis=axis) / sizes.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, BATCH_VALUES // len(sums)),
        confidence_level=CONFIDENCE_LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


def signed_rank(differences: Sequence[float], groups: Sequence[Hashable]) -> float | None:
    """Return the two-sided p-value of Wilcoxon's signed-rank test over groups' mean differences.

    Args:
        differences: One paired difference per case.
        groups: Group of each case, such as its patient: a group's mean difference counts once.

    Returns:
        The p-value; 1 if no group differs, None if there are no groups.
    """
    sums, counts = _by_group(differences, groups)
    if not len(sums):
        return None
    means = sums / counts
    # Rounding errors such as 0.1 + 0.2 - 0.3 are no difference, but would take a rank.
    means[np.abs(means) < np.finfo(np.float32).eps] = 0.0
    return float(wilcoxon(means).pvalue) if means.any() else 1.0


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Holm-adjusted p-values; None stays None and does not count as a test.

    The chance that any difference called significant is not real stays below the level.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        adjusted[place] = highest
    return adjusted


def risk_coverage(confidence: Sequence[float], risk: Sequence[float]) -> RiskCoverage | None:
    """Return how risk grows as less confident cases are included; None for no cases.

    Cases of equal confidence have no order, so each counts with their mean risk.

    Args:
        confidence: One confidence per case.
        risk: One risk per case, such as ``1 - Dice``.
    """
    if not len(risk):
        return None
    sure, risks = np.asarray(confidence, np.float64), np.asarray(risk, np.float64)
    _, tied = np.unique(-sure, return_inverse=True)
    expected = np.bincount(tied, risks) / np.bincount(tied)
    curve = _running_mean(expected[np.sort(tied)])
    coverage = np.arange(1, len(risks) + 1) / len(risks)
    return RiskCoverage(
        tuple(coverage.tolist()),
        tuple(curve.tolist()),
        float(curve.mean()),
        float(_running_mean(np.sort(risks)).mean()),
    )


def reliability(
    confidence: Sequence[float], precision: Sequence[float], bins: int = 5
) -> tuple[Bin, ...]:
    """Return confidence and precision in the non-empty bins of equal width from 0.5 to 1.

    A mask's confidence is the mean probability in it; if probabilities were frequencies, that
    share of its voxels would be true.

    Args:
        confidence: Mean probability in each case's mask, 0.5 to 1.
        precision: Share of the voxels of each case's mask that is true.
        bins: Number of bins.
    """
    sure, right = np.asarray(confidence, np.float64), np.asarray(precision, np.float64)
    place = np.clip(((sure - 0.5) * 2 * bins).astype(int), 0, bins - 1)
    return tuple(
        Bin(int(held.sum()), float(sure[held].mean()), float(right[held].mean()))
        for held in (place == number for number in range(bins))
        if held.any()
    )


def _running_mean(values: Floats) -> Floats:
    means: Floats = np.cumsum(values) / np.arange(1, len(values) + 1)
    return means


def _by_group(values: Sequence[float], groups: Sequence[Hashable]) -> tuple[Floats, Floats]:
    """Return the sum and the number of the values in each group."""
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    index = np.array([places[group] for group in groups], dtype=np.intp)
    size = len(places)
    sums = np.bincount(index, np.asarray(values, np.float64), size).astype(np.float64)
    return sums, np.bincount(index, minlength=size).astype(np.float64)
