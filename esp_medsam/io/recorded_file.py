"""Describe output files in a record, and check them against it later."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esp_medsam.errors import EspMedSamError, OutputError, OutputExistsError
from esp_medsam.identity import Identity, identify, sha256_of


Entry = str | Mapping[str, Any]
"""Entry of a file in a record: name, size, time and hash; in schema 1 only its name."""


def identity_entry(identity: Identity | None) -> dict[str, Any]:
    """Return an identity as a record states it; all None if the input was not read from a file."""
    if identity is None:
        return dict.fromkeys(("files", "bytes", "modified_ns", "sha256"))
    return {
        "files": len(identity.files),
        "bytes": identity.size,
        "modified_ns": identity.modified_ns,
        "sha256": identity.sha256,
    }


def file_entry(path: Path) -> dict[str, Any]:
    """Return the entry of an output that was just written.

    Raises:
        OutputError: If the output no longer exists.
    """
    try:
        identity = identify([path])
    except EspMedSamError as error:
        msg = f"{path} must not be removed before its record is written; it was."
        raise OutputError(msg) from error
    return {
        "name": path.name,
        "bytes": identity.size,
        "modified_ns": identity.modified_ns,
        "sha256": identity.sha256,
    }


def is_whole(path: Path, entry: Entry, *, verify: bool = False) -> bool:
    """Whether an output exists and matches its record.

    Args:
        path: The output.
        entry: Its entry in the record; in schema 1 only its name.
        verify: Whether content is compared even if size and time agree.

    Returns:
        False if it is missing or empty: then it holds nothing that could be lost.

    Raises:
        OutputExistsError: If its content differs. Someone may have corrected it by hand, which
            cannot be distinguished from damage.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return False
        if isinstance(entry, str):
            return True
        same_size = status.st_size == entry["bytes"]
        same_time = status.st_mtime_ns == entry["modified_ns"]
        if same_size and same_time and not verify:
            return True
        if same_size and sha256_of(path) == entry["sha256"]:
            return True
    except OSError:
        return False
    msg = (
        f"{path} must be as its record says; it was changed since, or damaged. Move it away to "
        "keep it, or pass `overwrite` to replace it."
    )
    raise OutputExistsError(msg)


def name_of(entry: Entry) -> str:
    """Return the name of a file that a record lists."""
    return entry if isinstance(entry, str) else str(entry["name"])


def is_file_entry(value: Any) -> bool:
    """Whether a value in a record is an entry whose name does not lead to another folder."""
    name = value
    if isinstance(value, dict):
        kinds = {"name": str, "bytes": int, "modified_ns": int, "sha256": str}
        if not all(isinstance(value.get(key), kind) for key, kind in kinds.items()):
            return False
        name = value["name"]
    if not isinstance(name, str) or "\0" in name or Path(name).name != name:
        return False
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True
