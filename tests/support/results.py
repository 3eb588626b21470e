"""Whether the result of an image is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from esp_medsam.io import Item, SaveSegmentationd


TARGETS = ("kidney", "kidney_tumor")
"""What the results of these tests hold."""


def is_done(
    saver: SaveSegmentationd, path: Path, targets: Sequence[str] = TARGETS, **facts: Any
) -> bool:
    """Return whether the saver would keep what is there of a CT image, of which facts are said."""
    item = replace(Item.of_file(path, modality="ct"), **facts)
    return saver.outputs.plan(item, targets).is_done(item.files)
