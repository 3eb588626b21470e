"""Read a journal of runs without locking or changing it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from esp_medsam.io.record import JOURNALS
from esp_medsam.regular_file import open_regular
from esp_medsam.workflows.journal import MARK, VERSION


TRIES = 20
"""How often a journal is copied that a run writes meanwhile."""

_WAIT = 0.05
_ENDINGS = ("", "-wal", "-journal")
_ITEMS = "SELECT item, status, code, message, attempts, seconds, began, ended, run FROM item"
_RUNS = "SELECT number, software, settings, began, ended FROM run ORDER BY number"


@dataclass(frozen=True)
class Told:
    """What a journal tells.

    Attributes:
        items: Rows of the items by name: status, code, message, attempts, seconds, and when the
            journal was last told of it.
        runs: Software, times and settings of each run, in order.
        problem: Why it tells nothing; empty if it does.
    """

    items: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    runs: tuple[Mapping[str, Any], ...] = ()
    problem: str = ""


def is_journal(path: Path) -> bool:
    """Whether a file is, by its name, the journal of a folder of results or of a share of it."""
    return path.name.startswith(JOURNALS) and path.suffix == ".sqlite"


def read_journals(folder: Path) -> Told:
    """Return what the journals of a folder tell, those of all shares together.

    Of an item in several, the one that was last told of it counts.
    """
    try:
        found = sorted(filter(is_journal, folder.iterdir()))
    except OSError as error:
        return Told(problem=f"the folder cannot be read ({error.strerror})")
    told = [read_journal(path) for path in found]
    items: dict[str, Mapping[str, Any]] = {}
    for one in told:
        for name, row in one.items.items():
            if name not in items or items[name]["told"] <= row["told"]:
                items[name] = row
    runs = sorted((run for one in told for run in one.runs), key=lambda run: str(run["began"]))
    problems = dict.fromkeys(one.problem for one in told if one.problem)
    return Told(items, tuple(runs), ", ".join(problems) if told else "there is no journal")


def read_journal(path: Path) -> Told:
    """Return what a journal tells; one that is missing or damaged only tells nothing.

    The database is copied first. SQLite itself would lock it, write beside it, or, where it may do
    neither, overlook what a running run has just written.
    """
    if not path.exists():
        return Told(problem="there is no journal")
    try:
        with TemporaryDirectory(prefix="esp-medsam-report-") as folder:
            copy = Path(folder, "journal")
            _copy(path, copy)
            with closing(sqlite3.connect(copy)) as database:
                return _read(database)
    except OSError as error:
        return Told(problem=f"the journal cannot be read ({error.strerror})")
    except sqlite3.Error:
        return Told(problem="the journal is damaged")
    except ValueError as error:
        return Told(problem=str(error))


def _copy(path: Path, copy: Path) -> None:
    """Copy a database with its log, at a moment when nothing is written."""
    files = [(Path(f"{path}{ending}"), Path(f"{copy}{ending}")) for ending in _ENDINGS]
    for attempt in range(TRIES):
        before = [_state(source) for source, _ in files]
        for source, target in files:
            target.unlink(missing_ok=True)
            try:
                with open_regular(source) as held, target.open("wb") as file:
                    shutil.copyfileobj(held, file)
            except FileNotFoundError:
                if source == path:
                    raise
        if before == [_state(source) for source, _ in files]:
            return
        time.sleep(_WAIT * (attempt + 1))


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(database: sqlite3.Connection) -> Told:
    """Read a journal's tables.

    Raises:
        ValueError: If it is something else, or newer.
        sqlite3.Error: If it is damaged.
    """
    database.row_factory = sqlite3.Row
    database.execute("PRAGMA trusted_schema = OFF")
    (mark,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    kinds = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('item', 'run')"
    if mark != MARK or database.execute(kinds).fetchone()[0] != 2:
        msg = "what lies in its place is no journal"
        raise ValueError(msg)
    if version > VERSION:
        msg = "the journal is of a newer version of this program"
        raise ValueError(msg)
    runs = [_run(row) for row in database.execute(_RUNS)]
    by_number = {run.pop("number"): run for run in runs}
    items = {}
    for row in database.execute(_ITEMS):
        if isinstance(row["item"], str):
            items[row["item"]] = dict(_item(row, by_number.get(row["run"], {})))
    return Told(items, tuple(runs))


def _item(row: sqlite3.Row, run: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "told", max(str(row[name] or "") for name in ("began", "ended"))
    for name in ("status", "code", "message"):
        yield name, row[name] if isinstance(row[name], str) else ""
    for name in ("attempts", "seconds"):
        yield name, row[name] if isinstance(row[name], int | float) else None
    yield "modality", run.get("modality", "")
    if isinstance(row["message"], str):  # pages name no folder of the machine
        message = row["message"]
        for root in run.get("roots", ()):
            message = message.replace(f"{root.rstrip('/')}/", "")
        yield "message", message


def _run(row: sqlite3.Row) -> dict[str, Any]:
    try:
        settings = json.loads(row["settings"])
    except (TypeError, ValueError, RecursionError):
        settings = None
    stated = settings if isinstance(settings, dict) else {}
    roots = [stated.get(name) for name in ("dataset_dir", "output_dir")]
    modality = stated.get("modality")
    return {
        "number": row["number"],
        "roots": [root for root in roots if isinstance(root, str) and root],
        "modality": modality if isinstance(modality, str) else "",
        **{name: str(row[name] or "") for name in ("software", "began", "ended")},
    }
