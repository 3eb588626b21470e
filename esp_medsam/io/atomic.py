"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from esp_medsam.errors import DiskFullError, EspMedSamError, OutputError


try:
    import fcntl
except ImportError:  # pragma: no cover  # on Windows
    fcntl = None  # type: ignore[assignment]  # absent there

logger = logging.getLogger(__name__)

_HAS_LOCKS = fcntl is not None

TEMPORARY_PREFIX = ".esp-medsam-"
"""Begins the names of files that are being written; a folder run passes over them."""

MARK = b"esp-medsam"
"""Stands near the beginning of every file written here."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_ours(path: Path, mark: bytes = MARK) -> bool:
    """Whether the image or record at ``path`` was written here, by the mark in its beginning."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    if head[:2] == b"\x1f\x8b":
        with suppress(zlib.error):
            head = zlib.decompressobj(wbits=31).decompress(head, 4096)
    return mark in head


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside ``path`` that takes its place once the block has ended without error.

    The file is on disk before it is renamed, so that a crash leaves the old content or the new. Its
    temporary name follows from ``path``: what a killed run left behind is overwritten by the next.

    Args:
        path: File to write; its folder is made where it is missing.

    Yields:
        The file, open for writing bytes.

    Raises:
        DiskFullError: If the disk, a quota or a limit leaves no room.
        OutputError: If the file cannot be written for another reason.
    """
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{digest}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(temporary) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if not _HAS_LOCKS:  # Windows renames no open file
                    file.close()
                temporary.replace(path)
            except BaseException:
                # Not after the rename: by then the name may be that of another process's file.
                temporary.unlink(missing_ok=True)
                raise
        sync_folder(path.parent)
    except EspMedSamError:
        raise
    except OSError as error:
        raise output_error(path, error) from error


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder until the block ends, where its file system has locks.

    The folder is made where it is missing. The lock ends with the process, however that ends.

    Raises:
        OutputError: If another run is in it.
    """
    lock = folder / f"{TEMPORARY_PREFIX}run.lock"
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(lock))
            stack.callback(_remove, lock)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            # Where no lock can be written, no output can: each will say so.
            logger.debug("%s cannot be locked", folder, exc_info=True)
        yield


def _remove(lock: Path) -> None:
    with suppress(OSError):  # Windows removes no open file
        lock.unlink()


@contextmanager
def _locked(temporary: Path) -> Iterator[BinaryIO]:
    """Open ``temporary`` empty, and for this process alone.

    The lock is of the open file, so it ends with the process, however that ends.
    """
    while True:
        with temporary.open("ab") as file:
            if _HAS_LOCKS:
                _lock(file, temporary)
                # The holder before us may have renamed the very file we opened: open anew.
                if not _is_same_file(file, temporary):
                    continue
            file.truncate(0)
            yield file
            return


def _lock(file: BinaryIO, temporary: Path) -> None:
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        msg = (
            f"{temporary.parent} must be written by one run at a time; another is writing. "
            "Wait for it, or choose another folder."
        )
        raise OutputError(msg) from error
    except OSError:  # the file system has no locks
        return


def _is_same_file(file: BinaryIO, temporary: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), temporary.stat())
    return False


def sync_folder(folder: Path) -> None:
    """Bring a rename to disk; where folders cannot be opened, the system sees to it itself."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def output_error(path: Path, error: OSError) -> OutputError:
    """Return what the system says of a file that cannot be written, as an error of ours."""
    reason = error.strerror or type(error).__name__
    if error.errno in _FULL:
        msg = f"{path} must fit on the disk; got: {reason}. Make room and run again."
        return DiskFullError(msg)
    msg = f"{path} must be writable; got: {reason}."
    return OutputError(msg)
