"""Private, locked working folders for patient data, removed afterwards."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from esp_medsam.errors import OutputError


_NAME = re.compile(r"[0-9a-f]{32}")
"""Pattern of the names of the folders created here; nothing else is ever removed."""


def private_folder(path: Path) -> Path:
    """Create a folder that nobody else can read; an existing folder stays unchanged.

    Raises:
        OutputError: If it cannot be created, is a link, or belongs to another user.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        foreign = os.name == "posix" and path.lstat().st_uid != os.geteuid()
        if foreign or path.is_symlink():
            msg = f"{path} must be a folder that you own; it is a link, or belongs to another user."
            raise OutputError(msg)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        reason = error.strerror or type(error).__name__
        msg = f"{path} must be a folder that can be written to; got: {reason}."
        raise OutputError(msg) from error
    return path


@contextmanager
def work_folder(root: Path) -> Iterator[Path]:
    """Create a folder that is always removed afterwards, and remove folders of dead processes.

    A lock that ends with its process tells whether the process is alive: the next run to start
    removes what a killed run left behind, but never the folder of a running process.

    Args:
        root: Folder in which to create it.

    Yields:
        The empty folder.

    Raises:
        OutputError: If it cannot be created.
    """
    private_folder(root)
    try:
        with FileLock(root / "guard.lock", mode=0o600):
            _clear(root)
            folder = root / secrets.token_hex(16)
            lock = FileLock(_lock_of(folder), mode=0o600)
            lock.acquire(timeout=0)
            private_folder(folder)
    except OSError as error:  # such as a pipe in place of the lock
        if isinstance(error, OutputError):
            raise
        reason = error.strerror or type(error).__name__
        msg = f"{root} must be a folder whose files can be locked; got: {reason}."
        raise OutputError(msg) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():  # otherwise, the next run to start tries again
            _lock_of(folder).unlink(missing_ok=True)
        lock.release()


def _clear(root: Path) -> None:
    """Remove the folders of processes that have ended."""
    # Lock files are included: a run may have ended before it had a folder.
    for folder in {path.with_suffix("") for path in root.iterdir()}:
        if not _NAME.fullmatch(folder.name) or folder.is_symlink():
            continue
        try:
            with FileLock(_lock_of(folder), timeout=0, mode=0o600):
                shutil.rmtree(folder, ignore_errors=True)
                _lock_of(folder).unlink(missing_ok=True)
        except Timeout:  # held by a live process
            continue
        except OSError:  # not our lock, such as a pipe: nothing is known about its process
            continue


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
