"""Keep other runs out of a folder."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from esp_medsam.errors import OutputError
from esp_medsam.io.atomic import FULL, clear_temporaries, output_error
from esp_medsam.io.folder import TEMPORARY_PREFIX, Folder, entered, lock, missing_folders


logger = logging.getLogger(__name__)

_RUN_LOCK = f"{TEMPORARY_PREFIX}run.lock"


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
            if error.errno in FULL:
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
