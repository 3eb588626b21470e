"""The record of a ``seg2nifti`` result."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esp_medsam.io.atomic import is_ours
from esp_medsam.io.record import STAMP, is_there, refuse_differences, write_own_json
from esp_medsam.io.recorded_file import is_file_entry, name_of
from esp_medsam.plain_data import read_own_json


KIND = "segmentation_type"
"""Key that records written here have, and those of ``segment`` have not."""


_OF_SEGMENT = re.compile(r"_segment\d+$")
"""Ends the name of a file that holds one segment."""


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record of an earlier run; None where there is none of ours."""
    try:
        record = read_own_json(path) if is_ours(path) else {}
    except (OSError, ValueError):
        return None
    return record if KIND in record else None


def write_record(path: Path, content: Mapping[str, Any], root: Path) -> None:
    """Write a record, last of all files of a result.

    Args:
        path: Where it goes.
        content: What it says.
        root: Folder above it, below which no link is followed.

    Raises:
        OutputError: If it cannot be written.
    """
    write_own_json(path, {**STAMP, **content}, root)


def check_agreement(previous: Mapping[str, Any], made_with: Mapping[str, Any], path: Path) -> None:
    """Refuse an earlier result that is not the one asked for: of that content, on that grid.

    Args:
        previous: Its record.
        made_with: What a record of the result that is asked for would say.
        path: Where its record lies.

    Raises:
        OutputExistsError: If it differs in anything.
    """
    different = [
        f"{key} {previous.get(key)}"
        for key in ("shape", "affine", "split_segments")
        if previous.get(key) != made_with[key]
    ]
    source = previous.get("source")
    if not isinstance(source, dict) or source.get("sha256") != made_with["source"]["sha256"]:
        different.append("another input file")
    refuse_differences(previous, path, different)


def are_whole(previous: Mapping[str, Any], record: Path, *, verify: bool = False) -> bool:
    """Whether all files of an earlier result are there, and as its record says.

    Raises:
        OutputExistsError: If one was changed since.
    """
    files = previous.get("files")
    if not isinstance(files, list) or not all(is_file_entry(entry) for entry in files):
        return False
    return is_there(previous, record.with_suffix(""), verify=verify)


def names_of(previous: Mapping[str, Any] | None, stem: Path) -> list[str]:
    """Return the names of an earlier result's files, none of another's.

    A record comes from a folder that others may write to.
    """
    files = previous.get("files") if previous else None
    names = [name_of(e) for e in files if is_file_entry(e)] if isinstance(files, list) else []
    own = re.compile(rf"{re.escape(stem.name)}(_segment\d+)?\.nii\.gz")
    return [name for name in names if own.fullmatch(name)]


def rivals_among(stems: Sequence[Path]) -> set[Path]:
    """Return the names of results that others would write to, on any file system.

    A result is written to the files of its name, or to one for each segment, which may be what
    another is called.
    """
    held: defaultdict[str, set[Path]] = defaultdict(set)
    count = Counter(str(stem).casefold() for stem in stems)
    for stem in stems:
        held[str(stem).casefold()].add(stem)
        held[_OF_SEGMENT.sub("", str(stem).casefold())].add(stem)
    return {
        stem
        for name, each in held.items()
        if count[name] > 1 or (count[name] and len(each) > 1)
        for stem in each
    }


def owner_of(path: Path, record: Path) -> Path | None:
    """Return the record of another result that a file is of; None where there is none."""
    stem = path.with_name(path.name.removesuffix(".nii.gz"))
    for name in {stem.name, _OF_SEGMENT.sub("", stem.name)}:
        other = stem.with_name(f"{name}.json")
        if other != record and path.name in names_of(read_record(other), other.with_suffix("")):
            return other
    return None
