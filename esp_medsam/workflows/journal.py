"""The journal of a folder's runs: what happened to each item, in a database beside the results."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from esp_medsam.errors import DiskFullError, OutputError, OutputExistsError
from esp_medsam.io.record import read_record
from esp_medsam.version import __version__
from esp_medsam.workflows.results import ItemResult


_MARK = 0x45534D53
"""SQLite's application_id of a journal: ``ESMS``."""

_VERSION = 1

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
    record TEXT, outputs TEXT, weights_sha256 TEXT, settings TEXT
) WITHOUT ROWID;
"""

_NETWORK = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "afs", "lustre", "beegfs", "gpfs")
"""Beginnings of the types of file systems that several machines share, where WAL is not safe."""


class Journal:
    """The journal of the runs into a folder; only the run that holds the folder's lock writes it.

    What makes a result done is its record; a journal that was lost is made anew from the records,
    as the next run meets them. Use it as a context manager.

    Args:
        path: Path of the database.
        root: Folder of the input; items are called by their paths below it.
        settings: Settings of the run, as plain data.

    Raises:
        OutputExistsError: If something else is in its place.
        OutputError: If it cannot be written.
    """

    def __init__(self, path: Path, root: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._root = f"{root}{os.sep}"
        with self._told():
            self._database = self._open()
            cursor = self._database.execute(
                "INSERT INTO run (software, host, process, settings, began) VALUES (?, ?, ?, ?, ?)",
                (
                    f"esp-medsam {__version__}",
                    platform.node(),
                    os.getpid(),
                    json.dumps(settings, default=str),
                    _now(),
                ),
            )
            self._run = cursor.lastrowid

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(sqlite3.Error):  # the run ends either way
            self._database.execute("UPDATE run SET ended = ? WHERE number = ?", (_now(), self._run))
        self._database.close()

    def begin(self, label: str) -> None:
        """Note that an item begins."""
        with self._told():
            self._database.execute(
                "INSERT INTO item (item, status, attempts, run, began) "
                "VALUES (?, 'running', 1, ?, ?) ON CONFLICT (item) DO UPDATE SET "
                "status = 'running', code = NULL, message = NULL, attempts = attempts + 1, "
                "run = excluded.run, began = excluded.began, ended = NULL, seconds = NULL",
                (self._name(label), self._run, _now()),
            )

    def end(self, result: ItemResult) -> None:
        """Note the outcome of an item; of one that was done before, what its record says."""
        name = self._name(result.path)
        with self._told():
            if result.status == "kept" and self._is_known(name):
                self._database.execute("UPDATE item SET run = ? WHERE item = ?", (self._run, name))
                return
            row = {
                "item": name,
                "status": "failed" if result.has_failed else "done",
                "code": result.code,
                "message": result.message or None,
                "run": self._run,
                "ended": None if result.status == "kept" else _now(),
                "seconds": None if result.status == "kept" else round(result.seconds, 3),
                **_of_record(result.record),
            }
            columns, marks = ", ".join(row), ", ".join("?" * len(row))
            changed = ", ".join(f"{name} = excluded.{name}" for name in row if name != "item")
            attempts = 0 if result.status == "kept" else 1
            self._database.execute(
                f"INSERT INTO item ({columns}, attempts) VALUES ({marks}, {attempts}) "
                f"ON CONFLICT (item) DO UPDATE SET {changed}",
                list(row.values()),
            )

    def _is_known(self, name: str) -> bool:
        found = self._database.execute(
            "SELECT 1 FROM item WHERE item = ? AND status = 'done'", (name,)
        )
        return found.fetchone() is not None

    def _name(self, label: str) -> str:
        return label.removeprefix(self._root).replace(os.sep, "/")

    def _open(self) -> sqlite3.Connection:
        """Open the database; make it anew if it is damaged."""
        files = [Path(f"{self.path}{ending}") for ending in ("", "-wal", "-shm", "-journal")]
        for path in files:
            if path.is_symlink() or (path.exists() and not path.is_file()):
                msg = f"{path} must be a file of this program; it is something else. Move it away."
                raise OutputExistsError(msg)
        if self.path.exists() and not _is_whole(self.path):
            for path in files:
                path.unlink(missing_ok=True)
        database = sqlite3.connect(self.path, isolation_level=None, timeout=30)
        mode = "DELETE" if is_shared(self.path.parent) else "WAL"
        database.execute(f"PRAGMA journal_mode = {mode}")
        database.execute("PRAGMA synchronous = NORMAL")
        if database.execute("PRAGMA user_version").fetchone()[0] == 0:
            database.executescript(
                f"BEGIN; {_TABLES} PRAGMA application_id = {_MARK}; "
                f"PRAGMA user_version = {_VERSION}; COMMIT;"
            )
        return database

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what SQLite says into errors of this package."""
        try:
            yield
        except sqlite3.Error as error:
            if "full" in str(error):
                msg = f"{self.path} must fit on the disk; got: {error}. Make room and run again."
                raise DiskFullError(msg) from error
            msg = f"{self.path} must be writable; got: {error}. Choose another place (journal)."
            raise OutputError(msg) from error


def _is_whole(path: Path) -> bool:
    """Whether a journal is undamaged.

    Raises:
        OutputExistsError: If it is something else, or of a newer version.
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
    except sqlite3.DatabaseError:
        found, version, state, count = int.from_bytes(mark, "big"), 0, "damaged", 1
    if found != _MARK and count:  # without a table it was just being made
        msg = f"{path} must be a journal of this program; it is something else. Move it away."
        raise OutputExistsError(msg)
    if version > _VERSION:
        msg = f"{path} must be a journal of version {_VERSION}; it is of version {version}. "
        raise OutputExistsError(msg + "Use the newer esp-medsam, or move it away.")
    return bool(state == "ok")


def is_shared(folder: Path) -> bool:
    """Whether a folder is on a file system that other machines may share, as far as Linux tells."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    held = {}
    for line in mounts:
        _, place, kind, *_ = line.split(" ")
        held[Path(place.encode().decode("unicode_escape"))] = kind
    here = folder.resolve()
    kind = next((held[place] for place in (here, *here.parents) if place in held), "")
    return kind.startswith(_NETWORK)


def _of_record(path: str | None) -> dict[str, Any]:
    """Return the columns that a record states; none for a failure."""
    record = None if path is None else read_record(Path(path).with_suffix(""))
    if record is None:
        return {}
    source = record["source"]
    outputs = {file["name"]: file.get("sha256") for file in record["files"]}
    return {
        "bytes": source.get("bytes"),
        "modified_ns": source.get("modified_ns"),
        "sha256": source.get("sha256"),
        "record": path,
        "outputs": json.dumps(outputs),
        "weights_sha256": record.get("weights_sha256"),
        "settings": json.dumps(record.get("settings")),
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
