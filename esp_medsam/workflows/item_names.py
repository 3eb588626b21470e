"""What items are called in journals, reports and verdicts, on any machine."""

from __future__ import annotations

import os


def item_name(label: str, root: str) -> str:
    """Return the name of an item: its label in messages, from the folder of the input on.

    Args:
        label: Path of the item as the user wrote it; for a DICOM volume its folder, and the name of
            the volume in parentheses.
        root: Folder of the input.
    """
    rest = label.removeprefix(root)
    if rest[:1] in (" ", os.sep):
        label = rest[1:]
    return plain_text(label.replace(os.sep, "/"))


def recorded_name(path: str, volume: str | None) -> str:
    """Return the same name, as the record of the result states it.

    Args:
        path: ``source.path`` of the record.
        volume: Name of the DICOM volume; None for other formats.
    """
    named = plain_text(path)
    if not volume:
        return named
    return f"({plain_text(volume)})" if named in ("", ".") else f"{named} ({plain_text(volume)})"


def plain_text(text: str) -> str:
    """Return text that databases and pages can hold: names of files need not be UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
