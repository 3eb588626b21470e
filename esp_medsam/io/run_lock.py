"""Keep other runs out of a folder."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from esp_medsam.errors import LockedError, OutputError, one_line
from esp_medsam.io.atomic import FULL, clear_temporaries, output_error
from esp_medsam.io.folder import TEMPORARY_PREFIX, Folder, entered, lock, missing_folders
from esp_medsam.plain_data import read_json
from esp_medsam.run_share import RunShare


logger = logging.getLogger(__name__)

_NO_LOCK = "%s cannot be locked (%s): see to it that no other run writes there meanwhile."

_LOCK = re.compile(re.escape(TEMPORARY_PREFIX) + r"run(?:-[0-9]+-of-(?P<count>[0-9]+))?\.lock")


class RunFolder:
    """A folder that only this run writes to, or only the runs of other shares beside it.

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


@dataclass(frozen=True)
class Holder:
    """Who holds a folder, as a file beside the lock says: it is told to whoever is kept out.

    Attributes:
        host: Name of the machine.
        process: Number of the process there.
        began: When its run began, in seconds since 1970.
    """

    host: str = field(default_factory=platform.node)
    process: int = field(default_factory=os.getpid)
    began: float = field(default_factory=time.time)

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        """Return what a file says; None if there is none, or it says something else."""
        try:
            said = read_json(path, most_bytes=4096)
            return cls(str(said["host"]), int(said["process"]), float(said["began"]))
        except (OSError, KeyError, TypeError, ValueError, OverflowError):
            return None

    def __str__(self) -> str:
        """Return it in words, with the run's age in minutes."""
        age = f"{max(time.time() - self.began, 0) / 60:.0f} min ago"
        return one_line(f"process {self.process} on {self.host}, begun {age}")


@contextmanager
def alone_in(path: Path, share: RunShare | None = None) -> Iterator[RunFolder]:
    """Keep other runs out of a folder until the block ends, if its file system has locks.

    The folder is created if missing, and removed again if nothing was written to it. The lock ends
    with the process, however the process ends.

    Args:
        path: The folder.
        share: Share of the input that the run takes; the other shares, of as many, may be taken by
            runs at the same time.

    Raises:
        LockedError: If another run uses the folder.
        OutputError: If the lock's path is not a regular file.
        DiskFullError: If there is no room for the lock.
    """
    with ExitStack() as stack:
        is_locked = False
        try:
            stack.callback(_remove_empty, missing_folders(path))
            folder = stack.enter_context(entered(path))
            _check_others(folder, share)  # a run that is kept out must keep nobody out meanwhile
            is_locked, before = stack.enter_context(_locked(folder, share))
            if is_locked:
                _check_others(folder, share)
            told = one_line(str(path))
            if not is_locked:
                logger.warning(_NO_LOCK, told, "no locks there")
            elif before is not None:
                logger.warning("%s: the run of %s, was ended; this one goes on.", told, before)
        except OutputError:
            raise
        except OSError as error:
            if error.errno in FULL:
                raise output_error(path, error) from error
            # If no lock can be written, no output can be either: each output will report it.
            logger.warning(_NO_LOCK, one_line(str(path)), error.strerror)
        yield RunFolder(path, is_locked=is_locked)


def _remove_empty(made: list[Path]) -> None:
    """Remove folders, the innermost first, until one is not empty."""
    with suppress(OSError):
        for folder in made:
            folder.rmdir()


@contextmanager
def _locked(folder: Folder, share: RunShare | None) -> Iterator[tuple[bool, Holder | None]]:
    """Hold a lock of a folder until the block ends.

    Yields:
        Whether the file system has locks, and who held this one and was ended.
    """
    name = f"{TEMPORARY_PREFIX}run{f'-{share.name}' if share else ''}.lock"
    while True:
        descriptor, is_new = _open_lock(folder, name)
        try:
            try:
                is_locked = lock(descriptor)
            except BlockingIOError as error:
                raise _held(folder, name) from error
            # The previous holder may have removed the file that we opened: open it again.
            if not folder.holds(name, descriptor):
                continue
            before = None if is_new else Holder.read(_note(folder, name))
            try:
                with suppress(OSError), folder.replaced(_note(folder, name).name) as file:
                    file.write(json.dumps(asdict(Holder())).encode())
                yield is_locked, before
            finally:
                with suppress(OSError):
                    folder.remove(_note(folder, name).name)
                    folder.remove(name)  # Windows cannot remove an open file
            return
        finally:
            os.close(descriptor)


def _check_others(folder: Folder, share: RunShare | None) -> None:
    """Check that no run holds a lock that this one's does not exclude by its name.

    Raises:
        LockedError: If one does.
    """
    for name in folder.names():
        found = _LOCK.fullmatch(name)
        count = None if found is None or found["count"] is None else int(found["count"])
        is_beside = share is not None and count == share.count
        if found is None or is_beside or (share is None and count is None):
            continue
        with suppress(FileNotFoundError):  # it has just ended
            descriptor = _opened_to_look(folder, name)
            try:
                lock(descriptor, is_shared=True)
            except BlockingIOError as error:
                raise _held(folder, name) from error
            finally:
                os.close(descriptor)


def _opened_to_look(folder: Folder, name: str) -> int:
    """Return a lock file opened to be read, which a shared lock needs no more than.

    Raises:
        LockedError: If not even that is allowed: its owner may be writing.
    """
    try:
        return folder.open(name, os.O_RDONLY)
    except PermissionError as error:
        raise _held(folder, name) from error


def _held(folder: Folder, name: str) -> LockedError:
    """Return the error that another run holds a lock."""
    holder = Holder.read(_note(folder, name))
    who = "another is writing" if holder is None else f"{holder}, is writing"
    shares = _LOCK.fullmatch(name)
    of = f" a share of {shares['count']}" if shares and shares["count"] else ""
    msg = f"{folder.path} must be written by one run at a time; {who}{of}. "
    return LockedError(f"{msg}Wait for it, or choose another folder.")


def _note(folder: Folder, name: str) -> Path:
    """Return the path of the file that says who holds a lock."""
    return folder.path / f"{name.removesuffix('.lock')}.note"  # whoever lists *.json wants records


def _open_lock(folder: Folder, name: str) -> tuple[int, bool]:
    """Open a lock file, to which nothing is ever written; return it, and whether it is new."""
    is_new = name not in folder.names()
    descriptor = None
    try:
        try:
            descriptor = folder.open(name, os.O_RDWR | os.O_CREAT)
        except PermissionError:  # of another user, who may be writing
            if is_new:
                raise
            descriptor = _opened_to_look(folder, name)  # enough to lock it, but on NFS
    except LockedError:
        raise
    except OSError:
        status = folder.stat(name) if name in folder.names() else None
        if status is None or stat.S_ISREG(status.st_mode):
            raise
    else:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor, is_new
        os.close(descriptor)
    msg = f"{folder.path / name} must be this program's lock file; it is something else. "
    raise OutputError(msg + "Remove it.")
