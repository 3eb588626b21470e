"""Plan an evaluation: read and check everything before computing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from esp_medsam.errors import OptionError, OutputExistsError, one_of
from esp_medsam.io.output_path import check_output_dir
from esp_medsam.modality import ALL, ModalityTable
from esp_medsam.settings import EvaluationSettings
from esp_medsam.workflows.case_score import TargetScore, read_cases
from esp_medsam.workflows.datalist import Item, check_targets, read_datalist
from esp_medsam.workflows.evaluation_plots import PLOTS, check_plots
from esp_medsam.workflows.overlays import read_overlay
from esp_medsam.workflows.request import Request


ENDINGS = (".csv", ".json")
"""File name endings, and thus formats, that a file of cases may have."""


def with_all_targets(request: Request) -> Request:
    """Return a request for all targets if none were named, because scores cover every target."""
    named = "targets" in request.settings
    if named or any("targets" in read_overlay(path) for path in request.configs[1:]):
        return request
    return replace(request, settings={**request.settings, "targets": (ALL,)})


def chosen_items(
    items: Sequence[Item],
    datasets: Sequence[str],
    targets: Sequence[str] | str | None,
    table: ModalityTable,
) -> list[Item]:
    """Return the items of the named sets, or all items if none are named.

    Args:
        items: Items of a datalist.
        datasets: Names of sets.
        targets: Targets to score, which each item's modality must have.
        table: Available modalities.

    Raises:
        OptionError: If a named set does not exist, or there is nothing to score.
        ModalityError: If the modality of an item is not in the table.
        TargetError: If a target of an item, or one of ``targets``, is not in the table.
    """
    sets = [item.set_name for item in items]
    if not set(sets).issuperset(datasets):
        msg = f"dataset {one_of(sorted(set(sets)))}; got {', '.join(datasets)}."
        raise OptionError(msg)
    named = zip(items, sets, strict=True)
    chosen = [item for item, name in named if not datasets or name in datasets]
    if not chosen:
        msg = "datalist must hold at least one item in the section; got none."
        raise OptionError(msg)
    for item in chosen:
        check_targets(item, table)
    for modality in dict.fromkeys(item.modality for item in chosen):
        table.select(modality, targets)
    return chosen


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """Plan of what to score, and what to do with the scores.

    Attributes:
        settings: Settings of the evaluation.
        items: Items to score.
        others: Cases of another model to compare with; None for no comparison.
    """

    settings: EvaluationSettings
    items: Sequence[Item]
    others: Sequence[TargetScore] | None = None


def plan_evaluation(
    settings: EvaluationSettings, *, table: ModalityTable, targets: Sequence[str] | str | None
) -> EvaluationPlan:
    """Return the plan of an evaluation, after all checks that are possible beforehand.

    Args:
        settings: Settings of the evaluation.
        table: Available modalities.
        targets: Targets to score; None selects those that are ready.

    Raises:
        EspMedSamError: If an input is invalid, or an output could not be written.
    """
    datalist = Path(settings.datalist)
    listed_items = read_datalist(datalist, settings.section)
    items = chosen_items(listed_items, settings.datasets or (), targets, table)
    inputs = {str(datalist), *(name for item in listed_items for name in item.files)}
    if settings.compare is not None:
        inputs.add(settings.compare)
    _check_outputs(settings, {Path(name).resolve() for name in inputs})
    others = None if settings.compare is None else read_cases(Path(settings.compare))
    return EvaluationPlan(settings=settings, items=items, others=others)


def plan_request(request: Request, **asked: Any) -> tuple[Request, EvaluationPlan]:
    """Return a request, for all targets if none were named, and the plan of its evaluation.

    Args:
        request: Network and pipeline.
        asked: Settings, under the keys of ``evaluate.yaml``.

    Raises:
        EspMedSamError: As in :func:`plan_evaluation`.
    """
    request = with_all_targets(request)
    targets = request.settings.get("targets")
    settings = EvaluationSettings.of(**asked)
    return request, plan_evaluation(settings, table=request.table, targets=targets)


def _check_outputs(settings: EvaluationSettings, inputs: set[Path]) -> None:
    """Raise an error if an output path cannot be used.

    Raises:
        OptionError: If an ending is unknown, or the path is an input or not a regular file.
        OutputExistsError: If the file exists and ``overwrite`` is not set.
        OutputError: If the folder cannot be written to.
    """
    places: list[tuple[str, Path]] = []
    for name, path, endings in (
        ("cases", settings.cases, ENDINGS),
        ("summary", settings.summary, ENDINGS[1:]),
    ):
        if path is not None:
            if Path(path).suffix.lower() not in endings:
                msg = f"{name} must end in {' or '.join(endings)}; got {path}."
                raise OptionError(msg)
            places.append((name, Path(path)))
    if len(places) == len(ENDINGS) and len({path.resolve() for _, path in places}) == 1:
        msg = f"summary must not be the same file as cases; got {settings.summary} for both."
        raise OptionError(msg)
    if settings.plots is not None:
        check_plots()
        folder = Path(settings.plots)
        places += [("plots", folder / f"{name}.{settings.plot_format}") for name in PLOTS]
    for name, place in places:
        _check_place(name, place, inputs, overwrite=settings.overwrite)


def _check_place(name: str, path: Path, inputs: Iterable[Path], *, overwrite: bool) -> None:
    check_output_dir(path.parent)
    if not os.path.lexists(path):
        return
    if not path.is_symlink() and not path.is_file():
        msg = f"{name} must be a file to write; {path} is something else. Choose another path."
        raise OptionError(msg)
    if path.resolve() in inputs:
        msg = f"{name} must not be an input; got {path}. Choose another path."
        raise OptionError(msg)
    if not overwrite:
        msg = f"{name} must not exist; {path} does. Pass `overwrite` to replace it."
        raise OutputExistsError(msg)
