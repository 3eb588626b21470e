"""Summarize scores by dataset and target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from esp_medsam.settings import RESAMPLES
from esp_medsam.workflows.case_score import TargetScore, by_target
from esp_medsam.workflows.evaluation_statistics import (
    Bin,
    Interval,
    RiskCoverage,
    mean_interval,
    reliability,
    risk_coverage,
)


OVERLAPS = ("dice", "iou", "precision", "recall")

SURFACES = ("surface_dice", "hd95", "hd")
"""Measures that depend on a unit, so they have no mean over several units."""

MIXED = "mixed"


@dataclass(frozen=True, kw_only=True)
class Score:
    """Scores of one target of a set, over all its images.

    Means are over the images that hold the target, or over all images in the released protocol;
    a mean is None if it has no case.

    Attributes:
        dataset: Name of the set.
        modality: Name of the modality.
        target: Name of the target.
        protocol: ``native`` or ``released``.
        unit: Unit of distances; ``mixed`` if images differ, which leaves no mean distance.
        tolerance: Tolerance of the surface Dice, in that unit.
        patients: Number of patients that the means cover, or of images if no patient is given.
        present: Number of images or volumes that hold the target.
        missed: Number of ``present`` images in which nothing was found.
        absent: Number of images known not to hold the target.
        false_alarms: Number of ``absent`` images in which something was found.
        empty: Share of ``absent`` images in which nothing was found.
        dice: Mean Dice.
        iou: Mean IoU.
        precision: Mean precision over images in which anything was found.
        recall: Mean recall.
        f1: Harmonic mean of mean precision and mean recall; None in the native protocol.
        surface_dice: Mean surface Dice.
        hd95: Mean HD95 of the cases in which something was found; the others are ``missed``.
        hd: Mean of the largest distance over the same cases.
        distance_cases: Number of cases that ``hd95`` and ``hd`` are means of.
        intervals: 95 % interval of each mean that has one, by name.
        risk_coverage: ``1 - Dice`` of the cases with a finding, most confident first.
        reliability: Confidence and precision of the same cases.
    """

    dataset: str
    modality: str
    target: str
    protocol: str
    unit: str | None
    tolerance: float | None
    patients: int
    present: int
    missed: int
    absent: int
    false_alarms: int
    empty: float | None
    dice: float | None = None
    iou: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    surface_dice: float | None = None
    hd95: float | None = None
    hd: float | None = None
    distance_cases: int = 0
    intervals: dict[str, Interval] = field(default_factory=dict)
    risk_coverage: RiskCoverage | None = None
    reliability: tuple[Bin, ...] = ()


def summarize(
    scores: Iterable[TargetScore], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Score]:
    """Return one score per target of each set, in order of appearance.

    Args:
        scores: Scores of cases.
        resamples: Number of times patients are resampled for the intervals.
        seed: Seed of the resampling.
    """
    return [
        _summary(*key, group, resamples=resamples, seed=seed)
        for key, group in by_target(scores).items()
    ]


def _summary(
    dataset: str,
    modality: str,
    target: str,
    group: Sequence[TargetScore],
    *,
    resamples: int,
    seed: int,
) -> Score:
    protocol = group[0].protocol
    holding = [score for score in group if score.present]
    absent = [score for score in group if not score.present]
    counted = group if protocol == "released" else holding
    units = {score.unit for score in counted}
    measures = OVERLAPS if len(units) > 1 else (*OVERLAPS, *SURFACES)
    means, intervals = _means(counted, measures, resamples=resamples, seed=seed)
    alarms = sum(score.error == "false alarm" for score in absent)
    with_confidence = [s for s in group if s.confidence is not None and s.precision is not None]
    sure = [s.confidence for s in with_confidence if s.confidence is not None]
    return Score(
        dataset=dataset,
        modality=modality,
        target=target,
        protocol=protocol,
        unit=MIXED if len(units) > 1 else next(iter(units), None),
        tolerance=group[0].tolerance,
        patients=len({score.resampled_as for score in counted}),
        present=len(holding),
        missed=sum(score.error == "missed" for score in holding),
        absent=len(absent),
        false_alarms=alarms,
        empty=1 - alarms / len(absent) if absent else None,
        f1=_f1(means) if protocol == "released" else None,
        distance_cases=sum(s.hd is not None for s in counted) if len(units) == 1 else 0,
        intervals=intervals,
        risk_coverage=risk_coverage(sure, [1 - s.dice for s in with_confidence]),
        reliability=reliability(sure, [s.precision or 0.0 for s in with_confidence]),
        **means,
    )


def _means(
    counted: Sequence[TargetScore], measures: Sequence[str], *, resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Return the mean of each measure that any case has, and its interval if there is one."""
    means, intervals = dict[str, float](), dict[str, Interval]()
    for name in measures:
        held = [score for score in counted if getattr(score, name) is not None]
        if not held:
            continue
        values = [float(getattr(score, name)) for score in held]
        means[name] = sum(values) / len(values)
        groups = [score.resampled_as for score in held]
        interval = mean_interval(values, groups, resamples=resamples, seed=seed)
        if interval is not None:
            intervals[name] = interval
    return means, intervals


def _f1(means: dict[str, float]) -> float | None:
    """Return the F1 of mean precision and mean recall, as the released script computes it."""
    precision, recall = means.get("precision"), means.get("recall")
    if precision is None or recall is None:
        return None
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
