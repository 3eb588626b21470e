"""What an evaluation is asked for, checked before anything is computed, and its rows, written."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from esp_medsam.errors import OptionError, OutputExistsError
from esp_medsam.io.atomic import atomic_file
from esp_medsam.modality import ALL, ModalityTable
from esp_medsam.workflows.datalist import Item, check_targets
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
        msg = f"dataset must be one of {', '.join(sorted(set(sets)))}; got {', '.join(datasets)}."
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


def check_cases_file(path: Path, datalist: Path, items: Iterable[Item], *, overwrite: bool) -> None:
    """Refuse a place where no cases may be written, before anything is computed.

    Args:
        path: Where they are to go.
        datalist: The datalist.
        items: Its items, whose files stay.
        overwrite: Whether another file may be replaced.

    Raises:
        OptionError: If its ending is unknown, or it is an input.
        OutputExistsError: If it exists and ``overwrite`` is not set.
    """
    if path.suffix.lower() not in ENDINGS:
        msg = f"cases must end in {' or '.join(ENDINGS)}; got {path}."
        raise OptionError(msg)
    if not os.path.lexists(path):
        return
    inputs = {str(datalist), *(name for item in items for name in item.files)}
    if path.resolve() in {Path(name).resolve() for name in inputs}:
        msg = f"cases must be none of the inputs; got {path}. Write them elsewhere."
        raise OptionError(msg)
    if not overwrite:
        msg = f"cases must not exist yet; {path} does. Pass --overwrite to replace it."
        raise OutputExistsError(msg)


def write_cases(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one row for each case and target, as CSV or JSON, whole or not at all.

    Args:
        path: A file that :func:`check_cases_file` let pass.
        rows: Values by column, the same columns in each.

    Raises:
        OutputError: If it cannot be written.
    """
    if path.suffix.lower() == ".json":
        text = json.dumps(list(rows), indent=1) + "\n"
    else:
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        text = table.getvalue()
    with atomic_file(path) as file:
        file.write(text.encode())
