"""Keep results on disk until the PACS is proved to hold them.

A spool has a folder for each server, named by the hash of its URL: ``server.json`` names the
server, ``outbox`` holds one DICOM file for each object to send, and ``records`` holds one file for
each finished series. Every file is either complete or absent.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esp_medsam.errors import OutputError
from esp_medsam.integrations.dicomweb.query import Series, is_uid
from esp_medsam.integrations.dicomweb.work import private_folder
from esp_medsam.io import atomic_file, output_error
from esp_medsam.io.atomic import clear_temporaries
from esp_medsam.io.folder import entered
from esp_medsam.io.record import STAMP
from esp_medsam.plain_data import read_own_json


def default_spool() -> Path:
    """Return the default folder of waiting results: ``~/.local/state/esp-medsam/pacs``.

    ``XDG_STATE_HOME``, if set, replaces ``~/.local/state``.
    """
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "esp-medsam" / "pacs"


@dataclass(frozen=True, kw_only=True)
class Made:
    """Result of a volume.

    Attributes:
        label: The volume, in words.
        series_uid: Series Instance UID of its segmentation; None if nothing was found.
        instance_uid: SOP Instance UID of its segmentation; None if nothing was found.
    """

    label: str
    series_uid: str | None = None
    instance_uid: str | None = None


def uid_of(entry: Path) -> str:
    """Return the SOP Instance UID of a waiting object."""
    return entry.name.removesuffix(".dcm")


class Spool:
    """Objects that wait for one server, and records of finished series.

    Args:
        root: Folder of the spool, for any number of servers.
        url: URL of the server.

    Raises:
        OutputError: If a folder cannot be created, or belongs to another user.
    """

    def __init__(self, root: Path, url: str) -> None:
        # An existing folder is the user's own; what is created in it is still private.
        self.root = root if root.exists() else private_folder(root)
        self.url = url
        folder = private_folder(root / hashlib.sha256(url.encode()).hexdigest()[:16])
        # Written first, so that no entry exists without its server.
        if _server_of(folder) != url:
            _write(folder / "server.json", {"url": url})
        self.outbox = private_folder(folder / "outbox")
        self._records = private_folder(folder / "records")
        for path in (folder, self._records):
            clear_temporaries(path)

    @property
    def work(self) -> Path:
        """Working folder, on the same file system so that results can be moved."""
        return self.root / "work"

    def entry(self, instance_uid: str) -> Path:
        """Return the path of the object with a UID, whether it waits or not.

        Raises:
            OutputError: If ``instance_uid`` is not a UID.
        """
        if not is_uid(instance_uid):
            msg = "An entry of the spool must be named by a UID; got something else."
            raise OutputError(msg)
        return self.outbox / f"{instance_uid}.dcm"

    def entries(self) -> list[Path]:
        """Return the waiting objects, sorted."""
        return sorted(path for path in self.outbox.glob("*.dcm") if is_uid(uid_of(path)))

    def put(self, path: Path, instance_uid: str) -> Path:
        """Move a finished file into the outbox, on the same file system.

        Raises:
            OutputError: If the file cannot be moved.
        """
        entry = self.entry(instance_uid)
        try:
            path.chmod(0o600)
            with entered(self.outbox, make=False) as folder:
                path.replace(entry)
                folder.sync()
        except OSError as error:
            raise output_error(entry, error) from error
        return entry

    def record(self, key: str) -> list[Made] | None:
        """Return the results of a series recorded under ``key``; None if there is no record."""
        content = _read(self._records / f"{key}.json")
        results = content.get("results") if content else None
        if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
            return None
        made = [
            Made(label=str(r.get("label")), series_uid=r.get("series"), instance_uid=r.get("seg"))
            for r in results
        ]
        uids = [uid for m in made for uid in (m.series_uid, m.instance_uid) if uid is not None]
        return made if all(is_uid(uid) for uid in uids) else None

    def write_record(self, key: str, series: Series, made: Sequence[Made]) -> None:
        """Record the results of a series, even if there are none."""
        results = [{"label": m.label, "series": m.series_uid, "seg": m.instance_uid} for m in made]
        content = {
            **STAMP,
            "study": series.study_uid,
            "series": series.series_uid,
            "results": results,
        }
        _write(self._records / f"{key}.json", content)

    def of_others(self) -> dict[str, int]:
        """Return the number of objects that wait for each other server, by its URL."""
        waiting = {}
        for outbox in sorted(self.root.glob("*/outbox")):
            url = _server_of(outbox.parent)
            count = len(list(outbox.glob("*.dcm")))
            if outbox != self.outbox and url is not None and count:
                waiting[url] = count
        return waiting


def _server_of(folder: Path) -> str | None:
    content = _read(folder / "server.json")
    url = content.get("url") if content else None
    return url if isinstance(url, str) else None


def _read(path: Path) -> dict[str, Any] | None:
    """Return the content of one of our JSON files; None if it is missing or not ours."""
    try:
        return read_own_json(path)
    except (OSError, ValueError):
        return None


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_file(path) as file:
        if os.name == "posix":
            os.fchmod(file.fileno(), 0o600)
        file.write(json.dumps(content, indent=2).encode("ascii") + b"\n")
