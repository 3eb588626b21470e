"""Read JSON files that this package writes: from folders that others may write to as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from esp_medsam.regular_file import open_regular


_MAX_BYTES = 2**24
"""Ours are small; a larger file under that name is not one."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        ValueError: If it holds something else, or is far larger than any of ours.
        OSError: If it cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        text = file.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise ValueError
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError from error
    if not isinstance(content, dict):
        raise ValueError
    return content
