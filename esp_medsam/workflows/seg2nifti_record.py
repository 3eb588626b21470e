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
"""Key that only these records have, not those of ``segment``."""


_OF_SEGMENT = re.compile(r"_segment\d+$")
"""Matches the end of the name of a file that holds one segment."""


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record of an earlier run; None if there is none by this package."""
    try:
        record = read_own_json(path) if is_ours(path) else {}
    except (OSError, ValueError):
        return None
    return record if KIND in record else None


def write_record(path: Path, content: Mapping[str, Any], root: Path) -> None:
    """Write a record, after all other files of a result.

    Args:
        path: Path of the record.
        content: Content of the record.
        root: Folder above the record; links below it are not followed.

    Raises:
        OutputError: If the record cannot be written.
    """
    write_own_json(path, {**STAMP, **content}, root)


def check_agreement(previous: Mapping[str, Any], made_with: Mapping[str, Any], path: Path) -> None:
    """Refuse an earlier result that differs from the requested one in content or grid.

    Args:
        previous: Record of the earlier result.
        made_with: Content that the record of the requested result would have.
        path: Path of the earlier record.

    Raises:
        OutputExistsError: If the results differ.
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
    """Whether all files of an earlier result exist and match its record.

    Raises:
        OutputExistsError: If a file was changed after the record was written.
    """
    files = previous.get("files")
    if not isinstance(files, list) or not all(is_file_entry(entry) for entry in files):
        return False
    return is_there(previous, record.with_suffix(""), verify=verify)


def names_of(previous: Mapping[str, Any] | None, stem: Path) -> list[str]:
    """Return the file names of an earlier result, without those of any other result.

    The record is not trusted, because others may be able to write to its folder.
    """
    files = previous.get("files") if previous else None
    names = [name_of(e) for e in files if is_file_entry(e)] if isinstance(files, list) else []
    own = re.compile(rf"{re.escape(stem.name)}(_segment\d+)?\.nii\.gz")
    return [name for name in names if own.fullmatch(name)]


def rivals_among(stems: Sequence[Path]) -> dict[Path, set[Path]]:
    """Return the names of results that would write to the same files, on any file system.

    A result is written to the file of its name or to one file per segment, whose name may be that
    of another result.

    Args:
        stems: Name of each result.

    Returns:
        For each name that clashes, the names that it clashes with; itself if it is given twice.
    """
    held: defaultdict[str, set[Path]] = defaultdict(set)
    count = Counter(str(stem).casefold() for stem in stems)
    for stem in stems:
        held[str(stem).casefold()].add(stem)
        held[_OF_SEGMENT.sub("", str(stem).casefold())].add(stem)
    rivals: defaultdict[Path, set[Path]] = defaultdict(set)
    for name, each in held.items():
        if count[name] > 1 or (count[name] and len(each) > 1):
            for stem in each:
                rivals[stem] |= each
    return dict(rivals)


def owner_of(path: Path, record: Path) -> Path | None:
    """Return the record of another result that a file belongs to; None if there is none."""
    stem = path.with_name(path.name.removesuffix(".nii.gz"))
    for name in {stem.name, _OF_SEGMENT.sub("", stem.name)}:
        other = stem.with_name(f"{name}.json")
        if other != record and path.name in names_of(read_record(other), other.with_suffix("")):
            return other
    return None
