"""Refuse archives, and tell the user to unpack them."""

from __future__ import annotations

from pathlib import Path

from esp_medsam.errors import FormatError
from esp_medsam.regular_file import open_regular


_KINDS: dict[str, tuple[int, tuple[bytes, ...]]] = {
    "zip": (0, (b"PK\x03\x04", b"PK\x05\x06")),
    "7z": (0, (b"7z\xbc\xaf\x27\x1c",)),
    "RAR": (0, (b"Rar!\x1a\x07",)),
    "gzip": (0, (b"\x1f\x8b",)),
    "bzip2": (0, (b"BZh",)),
    "xz": (0, (b"\xfd7zXZ\0",)),
    "Zstandard": (0, (b"\x28\xb5\x2f\xfd",)),
    "tar": (257, (b"ustar",)),
    "CD image": (32769, (b"CD001",)),
}
"""Of each kind of archive where its mark stands, and what it may be."""

_LONGEST = 33_000
"""Bytes in which all marks stand."""


def archive_kind(path: Path) -> str:
    """Return what kind of archive a file is, by its content; empty where it is none."""
    try:
        with open_regular(path) as file:
            start = file.read(_LONGEST)
    except OSError:
        return ""
    kinds = (kind for kind, (place, marks) in _KINDS.items() if start.startswith(marks, place))
    return next(kinds, "")


def check_no_archive(path: Path) -> None:
    """Refuse an archive in place of what is in it.

    Raises:
        FormatError: If it is one.
    """
    kind = archive_kind(path)
    if kind:
        msg = (
            f"{path} must be an image or a folder; it is an archive ({kind}). Unpack it, and pass "
            "the folder."
        )
        raise FormatError(msg)
