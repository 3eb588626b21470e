"""What the page's scripts read: the items of a report as plain data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from esp_medsam.version import __version__
from esp_medsam.workflows.report.case import FINDINGS, Case, Found
from esp_medsam.workflows.report.charts import Column, size_of
from esp_medsam.workflows.report.gather import Gathered
from esp_medsam.workflows.report.summary import Cause
from esp_medsam.workflows.verdicts import COLUMNS, GUARDED, VERDICTS


def plain_report(
    found: Gathered,
    folder: Path,
    pictures: Mapping[int, str],
    columns: Sequence[Column],
    causes: Sequence[Cause],
) -> dict[str, Any]:
    """Return a report as plain data.

    Verdicts are kept under a key of the folders of results: another report of the same folders
    shows them again, where a result is still the one that was judged.

    Args:
        found: The items.
        folder: Folder of the page, from which links to previews lead.
        pictures: Addresses of thumbnails, by the place of the item.
        columns: Targets of the report.
        causes: What failed, by cause.
    """
    units = {(column.modality, column.target): column.unit for column in columns}
    paths = "\n".join(sorted(str(one.path.resolve()) for one in found.folders))
    digest = hashlib.sha256(paths.encode("utf-8", "surrogateescape")).hexdigest()
    return {
        "key": f"esp-medsam-report:{digest[:24]}",
        "software": f"esp-medsam {__version__}",
        "folders": [one.name for one in found.folders],
        "findings": FINDINGS,
        "verdicts": VERDICTS,
        "guarded": "".join(sorted(GUARDED)),
        "fields": COLUMNS,
        "columns": [column._asdict() for column in columns],
        "causes": {one.code: (one.meaning, one.remedy) for one in causes},
        "cases": [
            _case(case, units, folder, pictures.get(place, ""))
            for place, case in enumerate(found.cases)
        ],
    }


def _case(
    case: Case, units: Mapping[tuple[str, str], str], folder: Path, picture: str
) -> dict[str, Any]:
    """Return an item as plain data, without what it lacks."""
    told = {
        "record": case.record,
        "code": case.code,
        "message": case.message,
        "attempts": case.attempts,
        "modality": case.modality,
        "targets": [_target(one, units[case.modality, one.name]) for one in case.targets],
        "findings": case.findings,
        "warnings": case.warnings,
        "plausibility": case.plausibility,
        "confidence": case.confidence,
        "sha256": case.sha256,
        "record_sha256": case.record_sha256,
        "preview": "" if case.preview is None else _link(case.preview, folder),
        "thumbnail": picture,
    }
    held = {name: value for name, value in told.items() if value not in ("", 0, (), [], None)}
    return {"folder": case.folder, "item": case.item, "status": case.status, **held}


def _target(found: Found, unit: str) -> dict[str, Any]:
    told = {
        "confidence": found.confidence,
        "dice": found.expected_dice,
        "size": size_of(found, unit),
        "unit": unit,
        "voxels": found.voxels,
        "statistics": dict(found.statistics) or None,
    }
    return {"name": found.name, **{name: one for name, one in told.items() if one is not None}}


def _link(path: Path, folder: Path) -> str:
    """Return a link to a file from a page in a folder; empty if there can be none."""
    try:
        relative = os.path.relpath(path.resolve(), folder.resolve())
    except ValueError:  # on another drive
        return ""
    return "./" + quote(os.fsencode(relative.replace(os.sep, "/")))
