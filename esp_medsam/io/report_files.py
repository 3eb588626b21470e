"""The marks by which the files of a report are recognized."""

from __future__ import annotations

from pathlib import Path

from esp_medsam.io.atomic import MARK, is_ours


GENERATOR = b'<meta name="generator" content="esp-medsam report'
"""Mark near the beginning of every page."""

SCRIPT_MARK = b"// " + MARK + b" report\n"
"""Beginning of the data of a page that is a folder."""


THUMBNAIL = "_seg_thumbnail.jpg"
"""Ending of the pictures of such a page, which have the mark of all pictures written here."""

_MARKS = {".html": GENERATOR, ".htm": GENERATOR, ".js": SCRIPT_MARK}


def is_report_file(path: Path) -> bool:
    """Whether a file is a page of a report, its data, or one of its pictures."""
    mark = MARK if path.name.endswith(THUMBNAIL) else _MARKS.get(path.suffix.lower())
    return mark is not None and is_ours(path, mark)
