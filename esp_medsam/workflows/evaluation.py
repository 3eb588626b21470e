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
"""What a file of cases may end in, and so be."""


def with_all_targets(request: Request) -> Request:
    """Return a request for every target where none were named: numbers are wanted of all."""
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
    """Return the items of these sets; of none named all.

    Args:
        items: Items of a datalist.
        datasets: Names of sets.
        targets: Those that are to be scored, which each item's modality must have.
        table: Modalities at hand.

    Raises:
        OptionError: If there is no such set, or nothing to score.
        ModalityError: If the modality of an item is not in the table.
        TargetError: If one of its targets, or one of ``targets``, is not.
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
    """What is to be scored, and what becomes of it.

    Attributes:
        settings: What was asked for.
        items: The images.
        others: Cases of another model to compare with; None compares nothing.
    """

    settings: EvaluationSettings
    items: Sequence[Item]
    others: Sequence[TargetScore] | None = None


def plan_evaluation(
    settings: EvaluationSettings, *, table: ModalityTable, targets: Sequence[str] | str | None
) -> EvaluationPlan:
    """Return what is to be scored, once all that can be checked beforehand is as it must be.

    Args:
        settings: What is asked for.
        table: Modalities at hand.
        targets: Targets that are to be scored; None takes those that are ready.

    Raises:
        EspMedSamError: If an input is not, or an output could not be written.
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
    """Return a request, for all targets where none were named, and what is to be scored.

    Args:
        request: What network and pipeline.
        asked: Keys of ``evaluate.yaml``.

    Raises:
        EspMedSamError: As of :func:`plan_evaluation`.
    """
    request = with_all_targets(request)
    targets = request.settings.get("targets")
    settings = EvaluationSettings.of(**asked)
    return request, plan_evaluation(settings, table=request.table, targets=targets)


def _check_outputs(settings: EvaluationSettings, inputs: set[Path]) -> None:
    """Refuse places where nothing may be written.

    Raises:
        OptionError: If an ending is unknown, or an input or what is no file lies there.
        OutputExistsError: If a file is there and ``overwrite`` is not set.
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
