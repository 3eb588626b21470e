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
"""Offset and possible values of the signature of each kind of archive."""

_LONGEST = 33_000
"""Number of leading bytes that contain all signatures."""


def archive_kind(path: Path) -> str:
    """Return the kind of archive a file is, by its content, or an empty string if it is none."""
    try:
        with open_regular(path) as file:
            start = file.read(_LONGEST)
    except OSError:
        return ""
    kinds = (kind for kind, (place, marks) in _KINDS.items() if start.startswith(marks, place))
    return next(kinds, "")


def check_no_archive(path: Path) -> None:
    """Raise an error if a file is an archive.

    Raises:
        FormatError: If the file is an archive.
    """
    kind = archive_kind(path)
    if kind:
        msg = (
            f"{path} must be an image or a folder; it is an archive ({kind}). Unpack it, and pass "
            "the folder."
        )
        raise FormatError(msg)
