"""Find the items of a report: results by their records, failures by the journals beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from esp_medsam.errors import EmptyInputError, OutputExistsError, not_found
from esp_medsam.identity import sha256_of
from esp_medsam.io.atomic import is_ours
from esp_medsam.io.output_path import PREVIEW_ENDINGS
from esp_medsam.io.record import is_own, read_record
from esp_medsam.io.recorded_file import Entry, name_of
from esp_medsam.plain_data import read_own_json
from esp_medsam.workflows.item_names import plain_text
from esp_medsam.workflows.report.case import Case, case_of_record
from esp_medsam.workflows.report.journals import Told, is_journal, read_journals
from esp_medsam.workflows.verdicts import DIGITS
from esp_medsam.workflows.walk import files_below


RECORD = "_seg.json"
"""Ending of the records of results."""

MISSING = "A file of this result is missing: {name}."
CHANGED = "A file of this result was changed since it was written: {name}."


@dataclass(frozen=True)
class ResultFolder:
    """A folder that runs wrote to.

    Attributes:
        path: The folder.
        name: End of its path, long enough to tell it from the others.
        told: What its journals tell.
    """

    path: Path
    name: str
    told: Told


@dataclass
class Gathered:
    """The items of a report.

    Attributes:
        folders: The folders of results.
        cases: Their items, what should be looked at first in front.
        unreadable: Folders that could not be listed.
    """

    folders: list[ResultFolder] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def gather(
    outputs: Sequence[Path], tracked: Callable[[Iterable[Path]], Iterable[Path]] = iter
) -> Gathered:
    """Return the items of folders of results, which are searched recursively.

    A folder below one of them that has a journal of its own counts as a folder of results itself.
    Nothing in them is written or locked.

    Args:
        outputs: The folders.
        tracked: Wraps the records as they are read, to show progress.

    Raises:
        InputNotFoundError: If one of the folders does not exist.
        EmptyInputError: If there is neither a result nor a failure.
    """
    found = Gathered()
    records, journals = _search(outputs, found)
    roots = list(dict.fromkeys(root for _, root in records) | journals)
    names = _names(roots)
    found.folders = [
        ResultFolder(root, plain_text(name), read_journals(root))
        for root, name in zip(roots, names, strict=True)
    ]
    places = {root: place for place, root in enumerate(roots)}
    root_of = dict(records)
    for path in tracked(list(root_of)):
        case = _case(path, root_of[path], places[root_of[path]])
        found.cases += [] if case is None else [case]
    _add_failures(found)
    if not found.cases:
        told = ", ".join(map(str, outputs))
        msg = f"OUT must hold results of `esp-medsam segment`, or the journal of a run; {told} "
        raise EmptyInputError(msg + f"{'holds' if len(outputs) == 1 else 'hold'} neither.")
    found.cases.sort(key=lambda case: case.rank)
    return found


def _search(
    outputs: Sequence[Path], found: Gathered
) -> tuple[list[tuple[Path, Path]], dict[Path, None]]:
    """Return records with their folders of results, and the folders with a journal."""
    records: list[tuple[Path, Path]] = []
    journals: dict[Path, None] = {}
    seen: set[Path] = set()
    for output in outputs:
        if not output.is_dir():
            raise not_found(output, "folder", argument="OUT")
        unreadable: list[tuple[Path, OSError]] = []
        root_of: dict[Path, Path] = {}
        for path in files_below(output, unreadable):
            if not is_journal(path) and not path.name.endswith(RECORD):
                continue
            folder = path.parent
            if folder not in root_of:  # its first file of interest
                if folder.resolve() in seen:
                    continue
                has_journal = any(map(is_journal, folder.iterdir()))
                above = next((root_of[one] for one in folder.parents if one in root_of), output)
                root_of[folder] = folder if has_journal else above
                if has_journal:
                    journals[folder] = None
            if not is_journal(path):
                records.append((path, root_of[folder]))
        seen |= {folder.resolve() for folder in root_of}
        found.unreadable += [_below(folder, output) for folder, _ in unreadable]
    return records, journals


def _below(folder: Path, output: Path) -> str:
    """Return the path of a folder from the name of the folder of results on."""
    return plain_text((Path(output.resolve().name) / folder.relative_to(output)).as_posix())


def _names(roots: Sequence[Path]) -> list[str]:
    """Return the ends of paths, with as many parts as tell each of them from the others."""
    parts = [root.resolve().parts for root in roots]
    names = []
    for own in parts:
        length = 1
        while length < len(own) and sum(one[-length:] == own[-length:] for one in parts) > 1:
            length += 1
        names.append("/".join(own[-length:]))
    return names


def _case(path: Path, root: Path, folder: int) -> Case | None:
    """Return the item of a record; None if it is not one of ours."""
    name = plain_text(path.relative_to(root).as_posix())
    stem = path.with_suffix("")
    try:
        record = read_record(stem)
        digest = sha256_of(path)[:DIGITS]
    except (OSError, OutputExistsError):
        if _is_of_other_command(path) or not is_ours(path):
            return None
        msg = "The record of this result is damaged."
        item = name.removesuffix(RECORD)
        return Case(folder=folder, item=item, record=name, status="damaged", message=msg)
    if record is None:  # gone since
        return None
    case = case_of_record(record, folder, name, digest)
    case.preview = _preview(stem, record["files"])
    faults = [text for entry in record["files"] for text in _faults(stem, entry)]
    case.warnings = (*faults, *case.warnings)
    return case


def _is_of_other_command(path: Path) -> bool:
    """Whether a file is a record of ours that is none of a segmentation, as seg2nifti writes."""
    try:
        record = read_own_json(path)
    except (OSError, ValueError):
        return False
    return is_own(record) and "targets" not in record


def _preview(stem: Path, files: Sequence[Entry]) -> Path | None:
    endings = tuple(f"{stem.name}{ending}" for ending in PREVIEW_ENDINGS)
    stated = (stem.with_name(name) for name in map(name_of, files) if name in endings)
    return next((path for path in stated if path.is_file()), None)


def _faults(stem: Path, entry: Entry) -> Iterable[str]:
    """Yield what a look at a file of a result shows; contents are not read."""
    name = name_of(entry)
    try:
        size = stem.with_name(name).stat().st_size
    except OSError:
        size = 0
    if not size:
        yield MISSING.format(name=plain_text(name))
    elif not isinstance(entry, str) and size != entry["bytes"]:
        yield CHANGED.format(name=plain_text(name))


def _is_newer(case: Case, folder: Path, told: str) -> bool:
    """Whether an item has a result that was written after a journal was told of a failure."""
    if not case.record or not told:
        return False
    with suppress(OSError, ValueError):
        return (folder / case.record).stat().st_mtime > datetime.fromisoformat(told).timestamp()
    return False


def _add_failures(found: Gathered) -> None:
    """Add what the journals say: failures of items, with or without an earlier result."""
    by_name = {(case.folder, case.item): case for case in found.cases}
    for place, folder in enumerate(found.folders):
        for item, row in folder.told.items.items():
            case = by_name.get((place, item))
            if case is None and row["status"] == "done":
                continue  # its result was moved away
            if case is None:
                case = Case(folder=place, item=item, status=row["status"], modality=row["modality"])
                found.cases.append(case)
            case.attempts, case.seconds = int(row["attempts"] or 0), row["seconds"]
            if row["status"] == "failed" and not _is_newer(case, folder.path, row["told"]):
                case.code, case.message = row["code"] or "E_ERROR", row["message"]
