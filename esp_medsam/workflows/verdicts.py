"""Verdicts of a reader on results, as the report exports them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from esp_medsam.errors import OptionError, listed, not_found, one_of, quoted
from esp_medsam.plain_data import read_json
from esp_medsam.regular_file import open_regular, unreadable


PASS, FAIL, ARTEFACT = VERDICTS = ("pass", "fail", "artefact")
"""What a reader says of a result: it can be used, its mask is wrong, or its image is."""

GUARDED = frozenset("=+-@\t\r\n'" + "\uff1d\uff0b\uff0d\uff20")
"""Characters that a cell may not begin with, because spreadsheets take it for a formula.

The page puts an apostrophe before them. An apostrophe is one of them, so that each text comes back
as it was.
"""

DIGITS = 16
"""Hexadecimal digits of the hash of a record that reports and verdicts state."""

_MOST_BYTES = 2**26
_MOST_VALUES = 2**23
_SEPARATORS = (",", ";", "\t")
_ALIASES = {"artifact": ARTEFACT}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a reader said of one result.

    Attributes:
        item: Name of the item, as :func:`~esp_medsam.workflows.item_names.item_name` returns it.
        verdict: One of :data:`VERDICTS`.
        note: Free text.
        folder: End of the path of the folder of results; empty if there is but one.
        record: Path of the record below that folder; empty if the item has no result.
        sha256: Hash of the input, as the record states it; empty if it is not known.
        record_sha256: Beginning of the hash of the record; another one is of another result.
    """

    item: str
    verdict: str
    note: str = ""
    folder: str = ""
    record: str = ""
    sha256: str = ""
    record_sha256: str = ""


COLUMNS = tuple(field.name for field in fields(Verdict))


def read_verdicts(path: Path, argument: str = "verdicts") -> list[Verdict]:
    """Return the verdicts in a CSV or JSON file, in its order; rows without one are left out.

    Of the columns only ``item`` and ``verdict`` are needed, and others do not matter, so that a
    table may be made by hand. Cells may be separated by semicolons or tabs, as some spreadsheets
    do.

    Args:
        path: The file; its ending says which kind it is.
        argument: What the user calls the file.

    Raises:
        InputNotFoundError: If there is no such file.
        ReadError: If it cannot be read.
        OptionError: If it holds something else, or two verdicts on one result.
    """
    if not path.is_file():
        raise not_found(path, argument=argument)
    try:
        is_json = path.suffix.lower() == ".json"
        found = [_verdict(*row) for row in (_json_rows if is_json else _csv_rows)(path)]
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, csv.Error) as error:
        msg = f"{argument} must hold verdicts as the report exports them; {path} has {error}."
        raise OptionError(msg) from error
    verdicts = [one for one in found if one is not None]
    _refuse_contradictions(verdicts, path, argument)
    return verdicts


def guarded(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in GUARDED and text else text


def unguarded(cell: str) -> str:
    """Return the text of a cell, without the apostrophe that guards it."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in GUARDED and cell[1:] else cell


def _csv_rows(path: Path) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield each row of a table, and where it stands."""
    with open_regular(path) as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        msg = f"more than {_MOST_BYTES:,} bytes"
        raise ValueError(msg)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"text that is not UTF-8, from byte {error.start} on"
        raise ValueError(msg) from error
    head = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=head.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    names = [name.strip().lower() for name in next(rows, [])]
    missing = [name for name in ("item", "verdict") if names.count(name) != 1]
    if missing:
        msg = f"no column {' and no column '.join(missing)} in its first line, or two of them"
        raise ValueError(msg)
    for row in rows:
        where = f"in line {rows.line_num}"
        if len(row) > len(names):
            msg = f"{len(row)} cells {where}, and {len(names)} columns"
            raise ValueError(msg)
        if any(row):
            yield dict(zip(names, map(unguarded, row), strict=False)), where


def _json_rows(path: Path) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield each verdict of an export as JSON, and where it stands."""
    content = read_json(path, most_bytes=_MOST_BYTES, most_values=_MOST_VALUES)
    rows = content.get("verdicts") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        msg = "no list of objects called verdicts"
        raise ValueError(msg)
    for number, row in enumerate(rows):
        yield row, f"at index {number}"


def _verdict(row: Mapping[str, Any], where: str) -> Verdict | None:
    """Return the verdict of a row; None if it has none.

    Raises:
        ValueError: If a value is not valid.
    """
    values = {name: row.get(name, "") for name in COLUMNS}
    wrong = next((name for name, value in values.items() if not isinstance(value, str)), None)
    if wrong is not None:
        msg = f"the {wrong} {quoted(values[wrong])} {where}, which is not text"
        raise ValueError(msg)
    said = values["verdict"].strip().lower()
    said = values["verdict"] = _ALIASES.get(said, said)
    if not said:
        return None
    if said not in VERDICTS:
        msg = f"the verdict {quoted(said)} {where}, which {one_of(VERDICTS)}"
        raise ValueError(msg)
    if not values["item"] and not values["record"]:
        msg = f"a verdict on no item {where}"
        raise ValueError(msg)
    return Verdict(**values)


def _refuse_contradictions(verdicts: list[Verdict], path: Path, argument: str) -> None:
    said: dict[tuple[str, str], str] = {}
    torn = []
    for one in verdicts:
        place = (one.folder, one.record or one.item)
        if said.setdefault(place, one.verdict) != one.verdict:
            torn.append(quoted(one.item or one.record))
    if torn:
        msg = f"{argument} must have one verdict on a result; {path} has two on {listed(torn)}."
        raise OptionError(msg)
