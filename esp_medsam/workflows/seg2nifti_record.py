"""The record beside what ``seg2nifti`` wrote: how it was made, and the sign that it is done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from esp_medsam import __version__
from esp_medsam.io.atomic import atomic_file, is_ours
from esp_medsam.io.json_file import read_json


KIND = "segmentation_type"
"""Key that records written here have, and those of ``segment`` have not."""


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record of an earlier run; None where there is none of ours."""
    try:
        record = read_json(path) if is_ours(path) else {}
    except (OSError, ValueError):
        return None
    return record if KIND in record else None


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record, last of all files of a result.

    Raises:
        OutputError: If it cannot be written.
    """
    record = {"made_by": f"esp-medsam {__version__}", **content}
    with atomic_file(path) as file:
        file.write(json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n")


def agrees(previous: dict[str, Any], made_with: dict[str, Any], record: Path) -> bool:
    """Whether an earlier result is the one asked for, and all of it is there."""
    files = previous.get("files")
    if not isinstance(files, list) or not isinstance(previous.get("source"), dict):
        return False
    if previous["source"].get("sha256") != made_with["source"]["sha256"]:
        return False
    keys = ("shape", "affine", "split_segments")
    same = all(previous.get(key) == made_with[key] for key in keys)
    return same and all(record.with_name(str(name)).is_file() for name in files)


def stale(previous: dict[str, Any] | None, stem: Path, files: Iterable[Path]) -> list[Path]:
    """Return files of an earlier result that are not of this one."""
    names = previous.get("files") if previous else None
    own = {path.name for path in files}
    return [
        stem.with_name(name)
        for name in (names if isinstance(names, list) else ())
        if isinstance(name, str)
        and Path(name).name == name
        and name.startswith(stem.name)
        and name.endswith(".nii.gz")
        and name not in own
    ]
