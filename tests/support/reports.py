"""Folders of results for reports: records, previews and a journal, without any segmentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import PIL.Image

from esp_medsam.io.record import JOURNAL
from esp_medsam.workflows.journal import Journal
from esp_medsam.workflows.results import ItemResult


def target(name: str = "vessels", confidence: float | None = 0.9, voxels: int = 50) -> Any:
    """Return what a record states about a target."""
    return {
        "name": name,
        "label": 1,
        "confidence": confidence,
        "expected_dice": None,
        "voxels": voxels,
        "ml": None,
    }


def write_result(
    folder: Path, name: str = "a", *, preview: bool = False, **stated: Any
) -> dict[str, Any]:
    """Write a result below a folder, and return its record.

    Args:
        folder: Folder of results.
        name: Path of the input's outputs below it, without ``_seg``.
        preview: Whether there is a picture of the result.
        stated: Fields of the record that replace others.
    """
    stem = folder / f"{name}_seg"
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(f"{stem.name}.png")]
    files[0].write_bytes(b"mask")
    if preview:
        files.append(stem.with_name(f"{stem.name}_preview.png"))
        PIL.Image.new("RGB", (300, 200), (90, 20, 20)).save(files[1])
    record = {
        "software": "esp-medsam 0.1.0",
        "schema": 2,
        "source": {"path": f"{name}.png", "sha256": "5a" * 32},
        "modality": "fundus",
        "targets": [target()],
        "formats": ["png"],
        "files": [
            {"name": one.name, "bytes": one.stat().st_size, "modified_ns": 1, "sha256": "0"}
            for one in files
        ],
        "weights_sha256": "31" * 32,
        "settings": {"flips": False},
        "warnings": [],
        **stated,
    }
    stem.with_name(f"{stem.name}.json").write_text(json.dumps(record), encoding="utf-8")
    return record


def write_journal(folder: Path, failures: Mapping[str, str], root: str = "/data/in") -> Path:
    """Write the journal of a run in which items failed, by name and code."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"modality": "fundus", "dataset_dir": root, "output_dir": str(folder)}
    with Journal(folder / JOURNAL, Path(root), settings) as journal:
        for name, code in failures.items():
            journal.begin(f"{root}/{name}")
            message = f"{root}/{name} must be whole; {folder}/a_seg.json is not."
            told = ItemResult(path=f"{root}/{name}", status="failed", code=code, message=message)
            journal.end(told)
    return folder / JOURNAL
