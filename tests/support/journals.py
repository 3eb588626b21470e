"""Journals, their rows, and what a run tells them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from esp_medsam.workflows.journal import Journal
from esp_medsam.workflows.results import ItemResult


def write_record(folder: Path) -> str:
    """Write the record of a result, and return its path."""
    file = folder / "a_seg.json"
    source = {"path": "a.png", "bytes": 9, "modified_ns": 5, "sha256": "5a"}
    content = {
        "software": "esp-medsam 0.1.0",
        "schema": 2,
        "source": source,
        "modality": "fundus",
        "targets": [],
        "formats": ["png"],
        "files": [{"name": "a_seg.png", "bytes": 3, "modified_ns": 1, "sha256": "77"}],
        "weights_sha256": "31",
        "settings": {"flips": False},
    }
    file.write_text(json.dumps(content), encoding="utf-8")
    return str(file)


def done(record: str, status: str = "done") -> ItemResult:
    return ItemResult(path="in/a.png", status=status, record=record, seconds=1.25)


def failed() -> ItemResult:
    return ItemResult(path="in/a.png", status="failed", code="E_CORRUPT", message="No.")


def opened(path: Path) -> Journal:
    return Journal(path, Path("in"), {"modality": "fundus"})


def rows(path: Path, table: str = "item") -> list[dict[str, Any]]:
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    found = [dict(row) for row in database.execute(f"SELECT * FROM {table}")]
    database.close()
    return found
