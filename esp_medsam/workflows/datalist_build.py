"""Build a datalist from folders or a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from esp_medsam.dicom import is_dicom
from esp_medsam.dicom.patient import patient_hash
from esp_medsam.errors import (
    EmptyInputError,
    EspMedSamError,
    OptionError,
    listed,
    not_found,
)
from esp_medsam.io.read import read
from esp_medsam.quiet import quietly
from esp_medsam.regular_file import open_regular
from esp_medsam.workflows.datalist import MOST_BYTES
from esp_medsam.workflows.datalist_images import WHITE
from esp_medsam.workflows.datalist_patterns import Named, by_patient, files_by_case, split_values


@dataclass
class Case:
    """An image to turn into a datalist item.

    Attributes:
        image: The image.
        modality: Its modality.
        labels: Masks by target.
        patient: Its patient; None if not known yet.
        section: Its section; None if the split is to assign it.
        absent: Targets known to be absent.
        unknown: Masks of unlabeled pixels.
        more: Further keys: ``dataset``, ``ct_input``, ``offset``.
    """

    image: Path
    modality: str
    labels: dict[str, list[Named]]
    patient: str | None = None
    section: str | None = None
    absent: list[str] = field(default_factory=list)
    unknown: list[Named] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)


class Paired(NamedTuple):
    """Cases, and notes on images and masks that could not be paired.

    Attributes:
        cases: The cases.
        notes: Notes for the user, one sentence each.
    """

    cases: list[Case]
    notes: list[str]


def cases_of_patterns(
    images: str,
    labels: Sequence[str],
    *,
    modality: str,
    root: Path,
    unknown: str | None = None,
    absent: Sequence[str] = (),
    more: Mapping[str, Any],
) -> Paired:
    """Return the cases that patterns match.

    Args:
        images: Pattern of the images; see :func:`files_by_case`.
        labels: ``TARGET=PATTERN`` each, followed by ``#`` and values for a label map.
        modality: Modality of all images.
        root: Folder that relative patterns start from.
        unknown: Pattern, and values, of the masks of unlabeled pixels.
        absent: Targets known to be absent from all images.
        more: Further keys for all images.

    Raises:
        OptionError: If a pattern is invalid.
        EmptyInputError: If a pattern matches nothing.
    """
    found = files_by_case(images, root, "images")
    cases = {
        case: Case(path, modality, {}, case, absent=list(absent), more=dict(more))
        for case, path in found.items()
    }
    notes = []
    for label in labels:
        target, is_given, pattern = label.partition("=")
        if not (target and is_given and pattern):
            msg = f"labels must be TARGET=PATTERN, such as liver=masks/{{case}}.png; got {label}."
            raise OptionError(msg)
        masks = _masks(pattern, root, f"labels of {target}")
        notes += _notes_on_unpaired(cases, masks, target)
        for case in cases.keys() & masks.keys():
            cases[case].labels.setdefault(target, []).append(masks[case])
    if unknown is not None:
        masks = _masks(unknown, root, "unknown")
        for case in cases.keys() & masks.keys():
            cases[case].unknown.append(masks[case])
    return Paired(list(cases.values()), notes)


def _masks(pattern: str, root: Path, option: str) -> dict[str, Named]:
    asked = split_values(pattern)
    found = files_by_case(asked.text, root, option)
    return {case: Named(str(path), asked.values) for case, path in found.items()}


def _notes_on_unpaired(
    images: Mapping[str, Case], masks: Mapping[str, Named], target: str
) -> list[str]:
    lacking = [case for case in images if case not in masks]
    left = [case for case in masks if case not in images]
    if len(left) == len(masks):
        msg = (
            f"labels of {target} must match images; none does. Images are of "
            f"{listed(list(images)[:3])}, masks of {listed(left[:3])}."
        )
        raise OptionError(msg)
    notes = []
    if lacking:
        notes.append(f"{target} is unknown in {_images(lacking)}, which have no mask of it.")
    if left:
        notes.append(f"{len(left)} masks of {target} match no image: {listed(left[:5])}.")
    return notes


def _images(cases: Sequence[str]) -> str:
    count = "1 image" if len(cases) == 1 else f"{len(cases)} images"
    return f"{count} ({listed(list(cases)[:5])}{', ...' if len(cases) > 5 else ''})"


_COLUMNS = ("image", "modality", "dataset", "patient", "section", "absent", "unknown", "ct_input",
            "offset")  # fmt: skip
_LABEL = "labels."


def cases_of_csv(path: Path, *, modality: str | None, more: Mapping[str, Any]) -> list[Case]:
    """Return the cases of a table, one per row.

    Columns are ``image``, and any of ``modality``, ``dataset``, ``patient``, ``section``,
    ``absent``, ``unknown``, ``ct_input``, ``offset`` and ``labels.TARGET``. A mask is a
    path, followed by ``#`` and values for a label map; several masks are separated by ``;``, as are
    absent targets. Paths are relative to the table's folder.

    Args:
        path: The CSV file, in UTF-8.
        modality: Modality for rows that do not state one.
        more: Further keys for rows that do not state them.

    Raises:
        InputNotFoundError: If there is no such file.
        OptionError: If the file is not such a table.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            msg = f"csv must have at most {MOST_BYTES:,} bytes; {path} has more."
            raise OptionError(msg)
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        reader = csv.DictReader(text, strict=True)
        columns, rows = list(reader.fieldnames or ()), list(reader)
    except FileNotFoundError as error:
        raise not_found(path, argument="csv") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"csv must be a table in UTF-8; {path} is not ({error})."
        raise OptionError(msg) from error
    wrong = [name for name in columns if name not in _COLUMNS and not name.startswith(_LABEL)]
    if "image" not in columns or wrong or len(set(columns)) < len(columns):
        msg = (
            f"csv must have the column image, and may have {', '.join(_COLUMNS[1:])} and "
            f"labels.TARGET, each once; {path} has {listed(columns)}."
        )
        raise OptionError(msg)
    if not rows:
        msg = f"csv must have a row for each image; {path} has none."
        raise EmptyInputError(msg)
    return [_case(row, number, path, modality, more) for number, row in enumerate(rows, 2)]


def _case(
    row: Mapping[str, Any], line: int, path: Path, modality: str | None, more: Mapping[str, Any]
) -> Case:
    if None in row or None in row.values():
        msg = f"csv must have a value for each column in each row; {path}, row {line}, has not."
        raise OptionError(msg)
    cells = {name: value.strip() for name, value in row.items()}
    asked = cells.get("modality") or modality
    if not cells["image"] or not asked:
        msg = (
            f"csv must have an image and a modality in each row; {path}, row {line}, lacks "
            "one. Pass `modality` if it is the same for all rows."
        )
        raise OptionError(msg)
    given = {name: cells[name] for name in ("dataset", "ct_input") if cells.get(name)}
    if cells.get("offset"):
        given["offset"] = _cell_number(cells["offset"], f"{path}, row {line}")
    return Case(
        path.parent / cells["image"],
        asked,
        {
            name.removeprefix(_LABEL): _paths(cell, path.parent)
            for name, cell in cells.items()
            if name.startswith(_LABEL) and cell
        },
        cells.get("patient") or None,
        cells.get("section") or None,
        _parts(cells.get("absent", "")),
        _paths(cells.get("unknown", ""), path.parent),
        {**more, **given},
    )


def _cell_number(text: str, where: str) -> float:
    try:
        return int(text) if text.lstrip("-").isdecimal() else float(text)
    except ValueError as error:
        msg = f"offset must be a number; {where} has {text}."
        raise OptionError(msg) from error


def _parts(cell: str) -> list[str]:
    return [part.strip() for part in cell.split(";") if part.strip()]


def _paths(cell: str, folder: Path) -> list[Named]:
    return [Named(str(folder / text), values) for text, values in map(split_values, _parts(cell))]


def find_patients(cases: Sequence[Case], pattern: str | None) -> None:
    """Set the patient of each case.

    The patient comes from the pattern if one is given, else from the hashed DICOM Patient ID; other
    images keep the patient that their table or their name gives.

    Raises:
        OptionError: If the pattern does not match, or no source gives the patient.
    """
    if pattern is not None:
        found = by_patient(pattern, [case.image.as_posix() for case in cases])
        for case, patient in zip(cases, found, strict=True):
            case.patient = patient
        return
    for case in cases:
        file = _dicom_file(case.image)
        if file is not None:
            case.patient = patient_hash(file)
        if case.patient is None:
            msg = (
                f"patient must be given for {case.image}, whose header, row and pattern name "
                "none. Pass `patient`."
            )
            raise OptionError(msg)


def _dicom_file(path: Path) -> Path | None:
    """Return a DICOM file of an image, or None if it has another format."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return next((file for file in files if is_dicom(file)), None)


def settle_absent(case: Case) -> None:
    """Move targets with empty masks to the absent ones, and drop values missing from files.

    An unreadable mask is kept: the check of the datalist reports its fault.
    """
    for target, masks in list(case.labels.items()):
        held = [_held(mask) for mask in masks]
        case.labels[target] = [mask for mask in held if mask is not None]
        if not case.labels[target]:
            del case.labels[target]
            case.absent.append(target)


def _held(mask: Named) -> Named | None:
    """Return a mask with only the values that its file holds, or None if it is empty."""
    indices = mask.values is not None
    try:
        with quietly():
            stored = read(mask.text, indices=indices)
    except EspMedSamError:
        return mask
    assert stored.pixels is not None, "just read"
    if mask.values is not None:
        values = tuple(v for v in mask.values if np.any(stored.pixels[0] == v))
        return mask._replace(values=values) if values else None
    # A mask of 0 and 1 is not empty; that it must be white is reported later.
    least = 0 if stored.grid.affine is not None or stored.pixels.max() <= WHITE else WHITE
    return mask if stored.pixels.max() > least else None
