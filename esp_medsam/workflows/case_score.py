"""Score of one case, and files of scores."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from esp_medsam.errors import OptionError, listed, not_found
from esp_medsam.io.atomic import atomic_file
from esp_medsam.plain_data import read_json
from esp_medsam.regular_file import open_regular
from esp_medsam.setting_checks import rule_of
from esp_medsam.setting_types import Protocol


MOST_BYTES, MOST_VALUES = 2**27, 2**23
"""Limits of a file of cases; a case takes about 250 bytes, or twice that as JSON."""

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Length = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Voxels = Annotated[int, Field(ge=0)]
PresenceError = Literal["", "missed", "false alarm"]


class TargetScore(NamedTuple):
    """Score of one target of one image or volume; see ``docs/reference/evaluation.md``.

    Attributes:
        dataset: Set of the image.
        modality: Its modality.
        target: Name of the target.
        image: Path of the image.
        present: Whether the target is present in the truth.
        dice: Dice coefficient, 0 to 1; if the target is absent, 1 if nothing was found, else 0.
        iou: Intersection over union, 0 to 1; if the target is absent, as ``dice``.
        voxels: Number of voxels, or pixels, in the predicted mask.
        true_voxels: Number of voxels, or pixels, in the true mask.
        precision: Share of the found voxels that are true; None if nothing was found.
        recall: Share of the true voxels that were found; None if the target is absent.
        surface_dice: Share of both surfaces within ``tolerance`` of the other; None if the
            target is absent, if distances are unknown, and in the released protocol.
        hd95: 95th percentile of the distances between the surfaces; None as above, and if
            nothing was found.
        hd: Maximum of those distances.
        unit: Unit of distances: ``mm``, ``px``, or None if they are unknown.
        tolerance: Tolerance of ``surface_dice``, in that unit; None in the released protocol.
        error: ``missed`` if the target is present and nothing was found, ``false alarm`` if it
            is absent and something was found, else empty.
        confidence: Mean probability inside the mask, 0.5 to 1; None if nothing was found.
        patient: Patient whose image it is; None if the datalist does not say.
        protocol: How the measures were taken: ``native`` or ``released``.
    """

    dataset: str
    modality: str
    target: str
    image: str
    present: bool
    dice: Fraction
    iou: Fraction
    voxels: Voxels
    true_voxels: Voxels
    precision: Fraction | None = None
    recall: Fraction | None = None
    surface_dice: Fraction | None = None
    hd95: Length | None = None
    hd: Length | None = None
    unit: str | None = None
    tolerance: Length | None = None
    error: PresenceError = ""
    confidence: Fraction | None = None
    patient: str | None = None
    protocol: Protocol = "native"

    @property
    def resampled_as(self) -> str:
        """Unit in which cases are resampled: the patient if known, else the image."""
        return self.image if self.patient is None else f"patient {self.patient}"


def by_target(scores: Iterable[TargetScore]) -> dict[tuple[str, str, str], list[TargetScore]]:
    """Return the scores of each set, modality and target, in the order in which they appear."""
    groups: dict[tuple[str, str, str], list[TargetScore]] = {}
    for score in scores:
        groups.setdefault((score.dataset, score.modality, score.target), []).append(score)
    return groups


def write_cases(path: Path, scores: Sequence[TargetScore]) -> None:
    """Write one row for each case and target, as CSV or JSON, atomically.

    Args:
        path: File to write or replace, ending in ``.csv`` or ``.json``.
        scores: Scores of cases.

    Raises:
        OutputError: If the file cannot be written.
    """
    rows = [score._asdict() for score in scores]
    if path.suffix.lower() == ".json":
        text = json.dumps(rows, indent=1) + "\n"
    else:
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, TargetScore._fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        text = table.getvalue()
    with atomic_file(path) as file:
        file.write(text.encode())


def read_cases(path: Path) -> list[TargetScore]:
    """Read a file that :func:`write_cases` wrote.

    Raises:
        InputNotFoundError: If there is no such file.
        OptionError: If the file has other content.
    """
    try:
        if path.suffix.lower() == ".json":
            rows = read_json(path, most_bytes=MOST_BYTES, most_values=MOST_VALUES)
        else:
            rows = [_typed_row(row) for row in _csv_rows(path)]
        return _CASES.validate_python(rows)
    except FileNotFoundError as error:
        raise not_found(path, argument="compare") from error
    except ValidationError as error:
        told = [f"{_place(one['loc'])} {rule_of(one)}" for one in error.errors(include_url=False)]
        msg = f"compare must hold cases as `cases` writes them; in {path}, {listed(told, '; ')}."
        raise OptionError(msg) from error
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        msg = f"compare must hold cases as `cases` writes them; in {path} got {reason}."
        raise OptionError(msg) from error


_CASES = TypeAdapter(list[TargetScore])


def _csv_rows(path: Path) -> Iterable[Mapping[str | None, Any]]:
    """Return the rows of a CSV file, whose size is limited."""
    with open_regular(path) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        msg = f"more than {MOST_BYTES:,} bytes"
        raise ValueError(msg)
    return csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)


def _typed_row(row: Mapping[str | None, Any]) -> dict[str, Any]:
    """Return a row of a CSV file with None for empty cells, except in ``error``."""
    if None in row:
        msg = "a row longer than the first"
        raise ValueError(msg)
    return {
        str(key): None if value == "" and key != "error" else value for key, value in row.items()
    }


def _place(loc: Sequence[int | str]) -> str:
    return f"case {loc[0]}, {loc[-1]}" if len(loc) > 1 else f"case {loc[0]}" if loc else "it"
