"""The journal of a folder's runs: what happened to each item, in a database beside the results."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from esp_medsam.errors import (
    DiskFullError,
    EspMedSamError,
    OutputError,
    OutputExistsError,
    WorkerDiedError,
    one_line,
)
from esp_medsam.io.record import JOURNALS, file_names, read_record
from esp_medsam.run_share import RunShare
from esp_medsam.version import __version__
from esp_medsam.workflows.item_names import item_name, plain_text
from esp_medsam.workflows.results import ItemResult


logger = logging.getLogger(__name__)

MARK = 0x45534D53
"""SQLite's application_id of a journal: ``ESMS``."""

VERSION = 3
"""Version of its tables."""

_TABLES = """
CREATE TABLE run (
    number INTEGER PRIMARY KEY,
    software TEXT NOT NULL, host TEXT NOT NULL, process INTEGER NOT NULL,
    settings TEXT NOT NULL, began TEXT NOT NULL, ended TEXT
);
CREATE TABLE item (
    item TEXT PRIMARY KEY,
    status TEXT NOT NULL, code TEXT, message TEXT,
    attempts INTEGER NOT NULL, run INTEGER NOT NULL REFERENCES run,
    began TEXT, ended TEXT, seconds REAL,
    bytes INTEGER, modified_ns INTEGER, sha256 TEXT,
    record TEXT, outputs TEXT, weights_sha256 TEXT, settings TEXT,
    tried TEXT, failures INTEGER NOT NULL DEFAULT 0, worker TEXT
) WITHOUT ROWID;
"""

_CHANGES = {
    1: "ALTER TABLE item ADD COLUMN tried TEXT; "
    "ALTER TABLE item ADD COLUMN failures INTEGER NOT NULL DEFAULT 0",
    2: "ALTER TABLE item ADD COLUMN worker TEXT",
}
"""What makes a journal of each earlier version one of the next."""

_LOCAL = frozenset(
    [
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "reiserfs"),
        *("tmpfs", "ramfs", "overlay", "ntfs", "ntfs3", "fuseblk", "vfat", "exfat", "apfs", "hfs"),
    ]
)
"""Types of file systems of one machine, where WAL is safe; others may be shared."""

_STATED = ("bytes", "modified_ns", "sha256", "record", "outputs", "weights_sha256", "settings")
"""Columns that a result's record states; some are known when an item begins."""

_SECONDS_TO_GATHER = 1.0
"""Time for which items that were done before are gathered into one transaction."""


class Failed(NamedTuple):
    """How an item failed.

    Attributes:
        code: Code of the failure.
        message: Its text.
        failures: How often it failed, or its run was killed, with the same input, settings, weights
            and version, since it was last done.
    """

    code: str
    message: str
    failures: int


def check_shares(folder: Path, share: RunShare) -> None:
    """Check that no other division into shares was begun in a folder of results.

    Raises:
        OutputExistsError: If there are journals of shares of another number.
    """
    for path in folder.glob(f"{JOURNALS}-*-of-*.sqlite"):
        found = re.fullmatch(r".*-of-([0-9]{1,6})\.sqlite", path.name)
        if found and int(found[1]) != share.count:
            count = int(found[1])
            msg = f"part must be one of {count} shares in {folder}, as {path.name} says; got "
            msg += f"{share}. Choose another folder, or remove {JOURNALS}-*-of-{count}.sqlite."
            raise OutputExistsError(msg)


class Journal:
    """The journal of the runs into a folder; only the run that holds the folder's lock writes it.

    What makes a result done is its record; a journal that was lost is made anew from the records,
    as the next run meets them. One that cannot be written any more is given up with a warning,
    and the run goes on. Use it as a context manager.

    Args:
        path: Path of the database.
        root: Folder of the input; items are called by their paths below it.
        settings: Settings of the run, as plain data.
        prefix: Beginning of the names of items, where several folders share a journal.

    Raises:
        OutputExistsError: If something else is in its place.
        OutputError: If it cannot be written.
    """

    def __init__(
        self, path: Path, root: Path, settings: Mapping[str, Any], prefix: str = ""
    ) -> None:
        self.path = path
        self._root, self._prefix = str(root), prefix
        self._is_lost = False
        self._latest = time.monotonic()
        self._gathered: list[tuple[str, Sequence[object]]] = []
        with _told(path):
            self._database = self._open()
            told = json.dumps(settings, default=str)
            cursor = self._database.execute(
                "INSERT INTO run (software, host, process, settings, began) VALUES (?, ?, ?, ?, ?)",
                (f"esp-medsam {__version__}", platform.node(), os.getpid(), told, _now()),
            )
            self._run = cursor.lastrowid

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(sqlite3.Error):  # the run ends either way
            if not self._is_lost:
                self._write(
                    "UPDATE item SET status = 'interrupted' WHERE status = 'running' AND run = ?",
                    (self._run,),
                )
                self._write(
                    "UPDATE run SET ended = ? WHERE number = ?", (_now(), self._run), at_once=True
                )
                # Who may only read the folder cannot read a database in WAL mode.
                self._database.execute("PRAGMA journal_mode = DELETE")
        self._database.close()

    def begin(
        self, label: str, tried: str | None = None, known: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Note that an item begins.

        Args:
            label: Name of the item in messages.
            tried: Hash of all that decides how it goes; attempts at something else do not count.
            known: What is known of its input and recipe, named as in a record.
        """
        row = _stated(known)
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        stated = ", ".join(f"{name} = excluded.{name}" for name in row)
        with self._given_up():
            self._write(
                f"INSERT INTO item (item, status, attempts, run, began, tried, {columns}) "
                f"VALUES (?, 'running', 1, ?, ?, ?, {marks}) ON CONFLICT (item) DO UPDATE SET "
                "status = 'running', code = NULL, message = NULL, worker = NULL, "
                "attempts = CASE WHEN tried IS excluded.tried THEN attempts + 1 ELSE 1 END, "
                "failures = CASE WHEN tried IS excluded.tried THEN failures + (status = 'running') "
                "ELSE 0 END, "
                f"run = excluded.run, began = excluded.began, ended = NULL, seconds = NULL, "
                f"tried = excluded.tried, {stated}",
                (self._name(label), self._run, _now(), tried, *row.values()),
                at_once=True,
            )

    def failure_of(self, label: str, tried: str) -> Failed | None:
        """Return how the same item failed before, if it did; a run that was killed at it counts.

        Args:
            label: Name of the item in messages.
            tried: As for :meth:`begin`.
        """
        if self._is_lost:
            return None
        found: tuple[str, str | None, str | None, int] | None = None
        with self._given_up():
            found = self._database.execute(
                "SELECT status, code, message, failures FROM item "
                "WHERE item = ? AND tried = ? AND NOT (status = 'running' AND run = ?)",
                (self._name(label), tried, self._run),
            ).fetchone()
        match found:
            case "failed", code, message, failures:
                return Failed(code or "", message or "", failures)
            case "running", _, _, failures:
                message = f"{label} must be segmented by a run that lives; the last one was killed."
                return Failed(WorkerDiedError.code, message, failures + 1)
        return None

    def end(self, result: ItemResult) -> None:
        """Note the outcome of an item; of one that was done before, what its record says."""
        row: dict[str, Any] = {
            "item": self._name(result.path),
            "status": "failed" if result.has_failed else "done",
            "code": result.code,
            "message": plain_text(result.message) or None,
            "run": self._run,
        }
        stated = _of_record(result.record)
        row |= stated or {}
        if result.status != "kept":
            row |= {"ended": _now(), "seconds": round(result.seconds, 3), "worker": result.worker}
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        changed = ", ".join(f"{name} = excluded.{name}" for name in row if name != "item")
        # An outcome without an attempt says nothing of what was tried before.
        changed += (
            ", failures = CASE WHEN excluded.status = 'done' THEN 0 "
            "ELSE item.failures + (item.status = 'running') END"
        )
        if result.status == "kept":  # perhaps of a run that another journal knows
            for name in ("worker", "ended", "seconds"):
                changed += f", {name} = CASE WHEN item.status = 'done' THEN item.{name} END"
        for name in ("tried", *(() if stated else _STATED)):
            changed += f", {name} = CASE WHEN item.status = 'running' THEN item.{name} END"
        # One that began has its first attempt.
        changed += f", attempts = item.attempts + {result.attempts - 1}"
        attempts = 0 if result.status == "kept" else result.attempts
        with self._given_up():
            self._write(
                f"INSERT INTO item ({columns}, attempts) VALUES ({marks}, {attempts}) "
                f"ON CONFLICT (item) DO UPDATE SET {changed}",
                list(row.values()),
                at_once=result.status != "kept",
            )

    def _write(self, statement: str, values: Sequence[object], *, at_once: bool = False) -> None:
        """Write in one transaction with what was gathered, at once or when that is old enough."""
        if self._is_lost:
            return
        self._gathered.append((statement, values))
        if at_once or time.monotonic() - self._latest > _SECONDS_TO_GATHER:
            self._database.execute("BEGIN")  # not held while a network works: others may write
            for each in self._gathered:
                self._database.execute(*each)
            self._database.execute("COMMIT")
            self._gathered.clear()
            self._latest = time.monotonic()

    @contextmanager
    def _given_up(self) -> Iterator[None]:
        """Give the journal up if it cannot be written: results matter more."""
        try:
            with _told(self.path):
                yield
        except EspMedSamError as error:
            self._is_lost = True
            logger.warning("%s The journal is not kept any further.", one_line(str(error)))

    def _name(self, label: str) -> str:
        prefix = plain_text(self._prefix.replace(os.sep, "/"))
        return f"{prefix}{item_name(label, self._root)}"

    def _open(self) -> sqlite3.Connection:
        """Open the database; set a damaged one aside, and make another."""
        files = [Path(f"{self.path}{ending}") for ending in ("", "-wal", "-shm", "-journal")]
        for path in files:
            if path.is_symlink() or (path.exists() and not path.is_file()):
                msg = f"{path} must be a file of this program; it is something else. Move it away."
                raise OutputExistsError(msg)
        if self.path.exists() and not _is_whole(self.path):
            aside = self.path.with_name(f"{self.path.name}.damaged")
            told = one_line(str(self.path)), one_line(aside.name)
            logger.warning("%s is damaged; it is now called %s.", *told)
            self.path.replace(aside)
            for path in files[1:]:
                path.unlink(missing_ok=True)
        database = sqlite3.connect(self.path, isolation_level=None, timeout=30)
        mode = "DELETE" if is_shared(self.path.parent) else "WAL"
        database.execute(f"PRAGMA journal_mode = {mode}")
        database.execute("PRAGMA synchronous = NORMAL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        for number in range(version or VERSION, VERSION):
            database.executescript(
                f"BEGIN; {_CHANGES[number]}; PRAGMA user_version = {number + 1}; COMMIT;"
            )
        if version == 0:
            database.executescript(
                f"BEGIN; {_TABLES} PRAGMA application_id = {MARK}; "
                f"PRAGMA user_version = {VERSION}; COMMIT;"
            )
        return database


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system say about a journal into errors of this package."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, EspMedSamError):
            raise
        if "full" in str(error):
            msg = f"{path} must fit on the disk; got: {error}. Make room and run again."
            raise DiskFullError(msg) from error
        told = error.strerror if isinstance(error, OSError) else error
        msg = f"{path} must be writable; got: {told}. Choose another place with `journal`."
        raise OutputError(msg) from error


def _is_whole(path: Path) -> bool:
    """Whether a journal is undamaged.

    Raises:
        OutputExistsError: If it is something else, or of a newer version.
        sqlite3.OperationalError: If it cannot be read now.
    """
    with path.open("rb") as file:
        mark = file.read(100)[68:72]
    try:
        database = sqlite3.connect(path, timeout=30)
        try:
            asked = ("application_id", "user_version", "quick_check(1)")
            found, version, state = (
                database.execute(f"PRAGMA {one}").fetchone()[0] for one in asked
            )
            (count,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            database.close()
    except sqlite3.OperationalError:  # locked, or not readable: that says nothing about it
        raise
    except sqlite3.DatabaseError:
        found, version, state, count = int.from_bytes(mark, "big"), 0, "damaged", 1
    if found != MARK and count:  # without a table it was just being made
        msg = f"{path} must be a journal of this program; it is something else. Move it away."
        raise OutputExistsError(msg)
    if version > VERSION:
        msg = f"{path} must be a journal of version {VERSION}; it is of version {version}. "
        raise OutputExistsError(msg + "Use the newer esp-medsam, or move it away.")
    return bool(state == "ok")


def is_shared(folder: Path) -> bool:
    """Whether a folder may be on a file system that several machines share, as Linux tells it."""
    try:
        lines = Path("/proc/self/mounts").read_bytes().splitlines()
    except OSError:
        return False
    held = {}
    for line in lines:
        place, of = line.split(b" ")[1:3]
        plain = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), place)
        held[Path(os.fsdecode(plain))] = os.fsdecode(of)
    here = folder.resolve()
    kind = next((held[place] for place in (here, *here.parents) if place in held), "")
    return bool(kind) and kind not in _LOCAL


def _of_record(path: str | None) -> dict[str, Any] | None:
    """Return the columns that a record states; None without one."""
    try:
        record = None if path is None else read_record(Path(path).with_suffix(""))
    except EspMedSamError:  # changed since
        record = None
    if record is None:
        return None
    hashes = [one.get("sha256") if isinstance(one, Mapping) else None for one in record["files"]]
    outputs = dict(zip(map(plain_text, file_names(record)), hashes, strict=True))
    made = {"record": plain_text(path or ""), "outputs": json.dumps(outputs)}
    return _stated(record) | made


def _stated(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of what a record states of input and recipe; NULL for what it does not."""
    source, settings = known.get("source", {}), known.get("settings")
    return dict.fromkeys(_STATED) | {
        "bytes": source.get("bytes"),
        "modified_ns": source.get("modified_ns"),
        "sha256": source.get("sha256"),
        "weights_sha256": known.get("weights_sha256"),
        "settings": None if settings is None else json.dumps(settings, default=str),
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
