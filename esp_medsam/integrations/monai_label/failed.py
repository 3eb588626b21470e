"""Images whose masks a reader marked as failed, by the names that their ids may be."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from esp_medsam.io.atomic import atomic_file
from esp_medsam.io.formats import name_of
from esp_medsam.plain_data import read_json
from esp_medsam.workflows.verdicts import FAIL, Verdict


FAILED = "failed.json"
"""Name of the list of these images in the app's folder."""

_VOLUME = re.compile(r"\(([^()]+)\)$")
_MOST_BYTES, _MOST_VALUES = 2**26, 2**23


def write_failed(app: Path, verdicts: Sequence[Verdict]) -> None:
    """Write the images of verdicts into an app's folder, in their order; remove those of earlier.

    Raises:
        OutputError: If they cannot be written.
    """
    named = [ids_of(one.item or one.record) for one in verdicts if one.verdict == FAIL]
    if not named:
        (app / FAILED).unlink(missing_ok=True)
        return
    with atomic_file(app / FAILED) as file:
        file.write((json.dumps(named, indent=1) + "\n").encode())


def read_failed(app: Path) -> list[list[str]]:
    """Return the ids that each of these images may have; empty if there are none."""
    path = app / FAILED
    if not path.is_file():
        return []
    named: list[list[str]] = read_json(path, most_bytes=_MOST_BYTES, most_values=_MOST_VALUES)
    return named


def ids_of(item: str) -> list[str]:
    """Return the ids that an item's image may have.

    That of a file is its name without ending. That of a DICOM series is its UID, with which the
    name of its volume begins.

    Args:
        item: Name of the item, as verdicts state it.
    """
    volume = _VOLUME.search(item)
    if volume is None:
        return [name_of(PurePosixPath(item).name).removesuffix("_seg")]
    return list(dict.fromkeys((volume[1].partition("_")[0], volume[1])))


def first_of(named: Sequence[Sequence[str]], unlabeled: Sequence[str]) -> str | None:
    """Return the first of these images that has no label yet; None if all have one."""
    left = set(unlabeled)
    return next((one for ids in named for one in ids if one in left), None)
