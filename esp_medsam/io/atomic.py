"""Write files atomically: complete, or not at all."""

from __future__ import annotations

import errno
import logging
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from esp_medsam.errors import DiskFullError, EspMedSamError, OutputError
from esp_medsam.io.folder import TEMPORARY_PREFIX, Folder, entered, lock, missing_folders
from esp_medsam.regular_file import open_regular


logger = logging.getLogger(__name__)

_RUN_LOCK = f"{TEMPORARY_PREFIX}run.lock"

MARK = b"esp-medsam"
"""Mark near the beginning of every file written here."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


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


class RunFolder:
    """A folder that only this run writes to.

    Args:
        path: The folder.
        is_locked: Whether other runs are kept out, which some file systems cannot do.
    """

    def __init__(self, path: Path, *, is_locked: bool) -> None:
        self.path = path
        self._cleared: set[Path] = set()
        self._is_locked = is_locked

    def clear(self, folder: Path) -> None:
        """Remove, once, the half-written files of killed runs from this folder or one below it.

        Files of other users, and files that a running process is writing, stay.
        """
        if not self._is_locked or folder in self._cleared:
            return
        self._cleared.add(folder)
        clear_temporaries(folder, self.path)


def clear_temporaries(path: Path, root: Path | None = None) -> None:
    """Remove this user's temporary files that no process is writing from a folder."""
    with suppress(OSError, ValueError), entered(path, root, make=False) as folder:
        folder.clear_temporaries()


@contextmanager
def alone_in(path: Path) -> Iterator[RunFolder]:
    """Keep other runs out of a folder until the block ends, if its file system has locks.

    The folder is created if missing, and removed again if nothing was written to it. The lock ends
    with the process, however the process ends.

    Raises:
        OutputError: If another run uses the folder, or the lock's path is not a regular file.
        DiskFullError: If there is no room for the lock.
    """
    with ExitStack() as stack:
        is_locked = False
        try:
            stack.callback(_remove_empty, missing_folders(path))
            folder = stack.enter_context(entered(path))
            is_locked = stack.enter_context(_run_locked(folder))
        except OutputError:
            raise
        except OSError as error:
            if error.errno in _FULL:
                raise output_error(path, error) from error
            # If no lock can be written, no output can be either: each output will report it.
            logger.debug("%s cannot be locked: %s", path, error.strerror)
        yield RunFolder(path, is_locked=is_locked)


def _remove_empty(made: list[Path]) -> None:
    """Remove folders, the innermost first, until one is not empty."""
    with suppress(OSError):
        for folder in made:
            folder.rmdir()


@contextmanager
def _run_locked(folder: Folder) -> Iterator[bool]:
    """Hold the lock of a folder until the block ends; yield whether the file system has locks."""
    while True:
        descriptor = _open_lock(folder)
        try:
            try:
                is_locked = lock(descriptor)
            except BlockingIOError as error:
                msg = (
                    f"{folder.path} must be written by one run at a time; another is writing. "
                    "Wait for it, or choose another folder."
                )
                raise OutputError(msg) from error
            # The previous holder may have removed the file that we opened: open it again.
            if not folder.holds(_RUN_LOCK, descriptor):
                continue
            try:
                yield is_locked
            finally:
                with suppress(OSError):  # Windows cannot remove an open file
                    folder.remove(_RUN_LOCK)
            return
        finally:
            os.close(descriptor)


def _open_lock(folder: Folder) -> int:
    """Open the lock file; nothing is ever written to it."""
    descriptor = None
    try:
        descriptor = folder.open(_RUN_LOCK, os.O_RDWR | os.O_CREAT)
    except OSError:
        status = folder.stat(_RUN_LOCK) if _RUN_LOCK in folder.names() else None
        if status is None or stat.S_ISREG(status.st_mode):
            raise
    else:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    msg = (
        f"{folder.path / _RUN_LOCK} must be this program's lock file; it is something else. "
        "Remove it."
    )
    raise OutputError(msg)


def output_error(path: Path, error: OSError) -> OutputError:
    """Return the system error for a file that cannot be written as an error of this package."""
    reason = error.strerror or type(error).__name__
    if error.errno in _FULL:
        msg = f"{path} must fit on the disk; got: {reason}. Make room and run again."
        return DiskFullError(msg)
    msg = f"{path} must be writable; got: {reason}."
    return OutputError(msg)
