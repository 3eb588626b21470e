"""Write files atomically: complete, or not at all."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from esp_medsam.errors import DiskFullError, EspMedSamError, OutputError
from esp_medsam.io.folder import entered
from esp_medsam.regular_file import open_regular


MARK = b"esp-medsam"
"""Mark near the beginning of every file written here."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of a system that say that there is no room."""


def is_ours(path: Path, mark: bytes = MARK) -> bool:
    """Whether the image or record at ``path`` was written here, judging by its mark."""
    try:
        with open_regular(path) as file:
            head = file.read(4096)
    except OSError:
        return False
    if head[:2] == b"\x1f\x8b":
        with suppress(zlib.error):
            head = zlib.decompressobj(wbits=31).decompress(head, 4096)
    return mark in head


@contextmanager
def atomic_file(path: Path, root: Path | None = None) -> Iterator[BinaryIO]:
    """Open a file beside ``path`` that replaces ``path`` when the block ends without error.

    The file is on disk before it is renamed, so a crash leaves either the old or the new content.
    If ``path`` is a link, the link is replaced, never its target.

    Args:
        path: File to write; its folder is created if missing.
        root: Folder above it, below which no link is followed; None means the file's own folder.

    Yields:
        The file, open for writing bytes.

    Raises:
        DiskFullError: If the disk, a quota or a limit leaves no room.
        OutputError: If the file cannot be written for another reason.
    """
    try:
        with entered(path.parent, root) as folder, folder.replaced(path.name) as file:
            yield file
    except EspMedSamError:
        raise
    except OSError as error:
        raise output_error(path, error) from error


def remove_file(path: Path, root: Path | None = None) -> None:
    """Remove a file if it exists; no link below ``root`` is followed.

    Raises:
        OutputError: If the file cannot be removed.
    """
    try:
        with suppress(FileNotFoundError), entered(path.parent, root, make=False) as folder:
            folder.remove(path.name)
    except EspMedSamError:
        raise
    except OSError as error:
        raise output_error(path, error) from error


@contextmanager
def all_or_none(root: Path | None = None) -> Iterator[list[Path]]:
    """Remove the files that the block added to the yielded list if it ends with an error.

    Args:
        root: Folder above them, below which no link is followed; None means each file's own folder.
    """
    written: list[Path] = []
    try:
        yield written
    except BaseException:
        for path in written:
            with suppress(OutputError):  # the first error is the one to report
                remove_file(path, root)
        raise


def clear_temporaries(path: Path, root: Path | None = None) -> None:
    """Remove this user's temporary files that no process is writing from a folder."""
    with suppress(OSError, ValueError), entered(path, root, make=False) as folder:
        folder.clear_temporaries()


def output_error(path: Path, error: OSError) -> OutputError:
    """Return the system error for a file that cannot be written as an error of this package."""
    reason = error.strerror or type(error).__name__
    if error.errno in FULL:
        msg = f"{path} must fit on the disk; got: {reason}. Make room and run again."
        return DiskFullError(msg)
    msg = f"{path} must be writable; got: {reason}."
    return OutputError(msg)
