"""Compare two models case by case: paired differences, intervals, tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from esp_medsam.errors import OptionError, listed
from esp_medsam.settings import RESAMPLES
from esp_medsam.workflows.case_score import TargetScore, by_target
from esp_medsam.workflows.evaluation_statistics import Interval, holm, mean_interval, signed_rank


COMPARED = ("dice", "iou", "surface_dice", "hd95")
"""Measures that are compared; the p-values of each measure are corrected separately."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Case-by-case difference in one measure of one target of a set: these scores minus the others.

    Attributes:
        dataset: Name of the set.
        modality: Name of the modality.
        target: Name of the target.
        measure: ``dice``, ``iou``, ``surface_dice`` or ``hd95``; a lower ``hd95`` is better.
        cases: Number of pairs in which both models have the measure.
        patients: Number of patients in these pairs, or of images if no patient is given.
        mean: Mean difference.
        interval: 95 % interval of the mean, patients resampled; None for fewer than two patients.
        p_value: P-value of Wilcoxon's signed-rank test over patients, two-sided.
        adjusted: Holm-adjusted p-value over all targets that are compared by this measure.
    """

    dataset: str
    modality: str
    target: str
    measure: str
    cases: int
    patients: int
    mean: float
    interval: Interval | None
    p_value: float | None
    adjusted: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All differences, and the cases that could not be paired.

    Attributes:
        differences: One for each measure and target that has pairs.
        unpaired: Cases of these scores that the other scores lack.
        others_unpaired: Cases of the other scores that these scores lack.
    """

    differences: tuple[Difference, ...]
    unpaired: int
    others_unpaired: int


def compare(
    scores: Sequence[TargetScore],
    others: Sequence[TargetScore],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Return how scores differ from those of another model on the same cases.

    Only cases that hold the target are compared; the released protocol compares all cases.

    Args:
        scores: Scores of one model.
        others: Scores of the other model.
        resamples: Number of times patients are resampled for the intervals.
        seed: Seed of the resampling.

    Raises:
        OptionError: If the models share no case, a case occurs twice, or the scores were not
            measured alike.
    """
    mine, theirs = _by_case(scores, "datalist"), _by_case(others, "compare")
    shared = [key for key in mine if key in theirs]
    if not shared:
        msg = (
            "compare must hold cases of the same datasets, targets and images; it has none in "
            "common."
        )
        raise OptionError(msg)
    for key in shared:
        _check_alike(mine[key], theirs[key])
    differences = [
        found
        for group in by_target(mine[key] for key in shared).values()
        for found in _differences(group, theirs, resamples=resamples, seed=seed)
    ]
    return Comparison(
        differences=_corrected(differences),
        unpaired=len(mine) - len(shared),
        others_unpaired=len(theirs) - len(shared),
    )


Key = tuple[str, str, str, str]


def _key(score: TargetScore) -> Key:
    return score.dataset, score.modality, score.target, score.image


def _by_case(scores: Iterable[TargetScore], what: str) -> dict[Key, TargetScore]:
    cases: dict[Key, TargetScore] = {}
    for score in scores:
        if _key(score) in cases:
            msg = f"{what} must hold each case once; got {score.target} of {score.image} twice."
            raise OptionError(msg)
        cases[_key(score)] = score
    return cases


def _check_alike(one: TargetScore, other: TargetScore) -> None:
    """Refuse a pair of scores that differ in how they were measured or in their ground truth."""
    facts = ("protocol", "unit", "tolerance", "true_voxels", "patient")
    unlike = [name for name in facts if getattr(one, name) != getattr(other, name)]
    if unlike:
        told = [f"{n} {getattr(other, n)} for {getattr(one, n)}" for n in unlike if n != "patient"]
        msg = (
            "compare must hold cases that were measured in the same way on the same truth; "
            f"for {one.target} of {one.image}, these differ: "
            f"{listed(told or ['another patient'])}."
        )
        raise OptionError(msg)


def _differences(
    group: Sequence[TargetScore],
    theirs: Mapping[Key, TargetScore],
    *,
    resamples: int,
    seed: int,
) -> Iterable[Difference]:
    """Yield the difference of each measure of one target of a set."""
    for measure in COMPARED:
        pairs = [
            (score, float(getattr(score, measure)) - float(getattr(theirs[_key(score)], measure)))
            for score in group
            if (score.present or score.protocol == "released")
            and getattr(score, measure) is not None
            and getattr(theirs[_key(score)], measure) is not None
        ]
        if not pairs:
            continue
        values = [difference for _, difference in pairs]
        patients = [score.resampled_as for score, _ in pairs]
        yield Difference(
            dataset=group[0].dataset,
            modality=group[0].modality,
            target=group[0].target,
            measure=measure,
            cases=len(pairs),
            patients=len(set(patients)),
            mean=sum(values) / len(values),
            interval=mean_interval(values, patients, resamples=resamples, seed=seed),
            p_value=signed_rank(values, patients),
        )


def _corrected(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    """Return the differences with p-values corrected per measure."""
    adjusted: dict[int, float | None] = {}
    for measure in COMPARED:
        places = [place for place, one in enumerate(differences) if one.measure == measure]
        family = holm([differences[place].p_value for place in places])
        adjusted |= dict(zip(places, family, strict=True))
    return tuple(replace(one, adjusted=adjusted[place]) for place, one in enumerate(differences))
