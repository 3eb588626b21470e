"""Write inside output folders, created step by step, without following links out of them."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from esp_medsam.errors import OutputError


try:
    import fcntl
except ImportError:  # pragma: no cover  # on Windows
    fcntl = None  # type: ignore[assignment]  # absent there

_HAS_LOCKS = fcntl is not None

TEMPORARY_PREFIX = ".esp-medsam-"
"""Prefix of the names of files that are being written; a folder run skips them."""

_TEMPORARY_ENDING = ".tmp"

_NOT_FOLLOWED = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

_ENTERED = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | _NOT_FOLLOWED

_LISTED = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NOT_FOLLOWED

_HAS_DIR_FD = {os.open, os.mkdir, os.rename, os.stat, os.unlink} <= os.supports_dir_fd
"""Whether entries can be named relative to an open folder; on Windows they cannot."""


class Folder:
    """A folder that is held open if the system allows it, so that nothing can take its place.

    Its methods take names of entries, and never follow a link.

    Args:
        path: Its path, as shown in messages.
        descriptor: The open folder; None if entries are named by their path.
    """

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    def open(self, name: str, flags: int) -> int:
        """Open a file and return its descriptor; a new file gets the mode of the umask."""
        flags |= _NOT_FOLLOWED | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        return os.open(self._at(name), flags, 0o666, dir_fd=self._descriptor)

    @contextmanager
    def replaced(self, name: str) -> Iterator[BinaryIO]:
        """Open a new file that takes another's name when the block ends without error.

        Raises:
            OSError: If the file cannot be written; nothing of it is left then.
        """
        temporary, file = self._temporary()
        with file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if not _HAS_LOCKS:  # Windows cannot rename an open file
                    file.close()
                self.replace(temporary, name)
            except BaseException:
                with suppress(OSError):  # the data still to be written may not fit either
                    file.close()
                self.remove(temporary)
                raise
        self.sync()

    def check_writable(self) -> None:
        """Create a file and remove it.

        Raises:
            OSError: If that is not possible.
        """
        name, file = self._temporary()
        file.close()
        self.remove(name)

    def clear_temporaries(self) -> None:
        """Remove this user's temporary files that no process is writing."""
        for name in self.names() if _HAS_LOCKS else ():
            if name.startswith(TEMPORARY_PREFIX) and name.endswith(_TEMPORARY_ENDING):
                with suppress(OSError):
                    self._clear(name)

    def _temporary(self) -> tuple[str, BinaryIO]:
        """Create a file with an unpredictable name, locked by this process while it is open."""
        while True:
            name = f"{TEMPORARY_PREFIX}{secrets.token_hex(16)}{_TEMPORARY_ENDING}"
            descriptor = self.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            with suppress(BlockingIOError):
                lock(descriptor)
                if self.holds(name, descriptor):
                    return name, os.fdopen(descriptor, "wb")
            # A process that clears the folder removed the file before we locked it.
            os.close(descriptor)

    def _clear(self, name: str) -> None:
        descriptor = self.open(name, os.O_RDWR)  # NFS locks no file that is open read-only
        try:
            status = os.fstat(descriptor)
            is_own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
            # Only an acquired lock proves that no other process holds the file.
            if is_own and lock(descriptor) and self.holds(name, descriptor):
                self.remove(name)
        finally:
            os.close(descriptor)

    def replace(self, name: str, taken: str) -> None:
        """Rename a file, replacing the entry of that name; of a link only the link is replaced."""
        descriptor = self._descriptor
        os.replace(self._at(name), self._at(taken), src_dir_fd=descriptor, dst_dir_fd=descriptor)

    def remove(self, name: str) -> None:
        """Remove a file or link if it exists."""
        with suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self._descriptor)

    def stat(self, name: str) -> os.stat_result:
        """Return the status of an entry."""
        return os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)

    def holds(self, name: str, descriptor: int) -> bool:
        """Whether an open file is still the one with that name."""
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), self.stat(name))
        return False

    def names(self) -> list[str]:
        """Return the names of all entries."""
        if self._descriptor is None:
            return [path.name for path in self.path.iterdir()]
        listed = os.open(".", _LISTED, dir_fd=self._descriptor)
        try:
            with os.scandir(listed) as entries:
                return [entry.name for entry in entries]
        finally:
            os.close(listed)

    def sync(self) -> None:
        """Flush a rename to disk; if folders cannot be opened, the system does so itself."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            listed = os.open(".", _LISTED, dir_fd=self._descriptor)
            try:
                os.fsync(listed)
            finally:
                os.close(listed)

    def below(self, name: str, *, make: bool) -> Folder:
        """Open a folder in this one.

        Raises:
            OutputError: If it is a link.
            OSError: If it does not exist, or is not a folder.
        """
        if make:
            with suppress(FileExistsError):
                os.mkdir(self._at(name), dir_fd=self._descriptor)
        path = self.path / name
        if _is_link(self.stat(name)):
            msg = (
                f"{path} must be a real folder; it is a link. Remove it, or choose another "
                "output folder."
            )
            raise OutputError(msg)
        if self._descriptor is None:
            return Folder(path, None)
        return Folder(path, os.open(name, _ENTERED, dir_fd=self._descriptor))

    def close(self) -> None:
        """Close the folder."""
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _at(self, name: str) -> str | Path:
        return self.path / name if self._descriptor is None else name


@contextmanager
def entered(path: Path, root: Path | None = None, *, make: bool = True) -> Iterator[Folder]:
    """Open a folder until the block ends.

    Args:
        path: The folder.
        root: Folder above it. It and the folders above it may be links; those below it may not.
            None means the folder itself.
        make: Whether to create missing folders.

    Raises:
        OutputError: If a folder below ``root`` is a link.
        OSError: If a folder does not exist, is not a folder, or cannot be created.
    """
    root = path if root is None else root
    steps = path.relative_to(root).parts
    if os.pardir in steps:
        msg = f"Outputs must be inside {root}; got {path}."
        raise OutputError(msg)
    if make:
        for missing in reversed(missing_folders(root)):
            with suppress(FileExistsError):
                missing.mkdir()
    flags = _ENTERED & ~getattr(os, "O_NOFOLLOW", 0)
    folder = Folder(root, os.open(root, flags) if _HAS_DIR_FD else None)
    try:
        for name in steps:
            above, folder = folder, folder.below(name, make=make)
            above.close()
        yield folder
    finally:
        folder.close()


def lock(descriptor: int, *, is_shared: bool = False) -> bool:
    """Lock an open file until it is closed; return whether the file system has locks.

    Args:
        descriptor: The file.
        is_shared: Whether others may hold a shared lock of it at the same time.

    Raises:
        BlockingIOError: If another process holds the lock.
    """
    if not _HAS_LOCKS:
        return False
    try:
        kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # the file system has no locks
        return False
    return True


def missing_folders(path: Path) -> list[Path]:
    """Return those of a folder and its parents that do not exist, the innermost first.

    Raises:
        OSError: If the folder can never exist: a name is too long, or links form a loop.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        path.stat()
        return []
    missing = []
    for folder in (path, *path.parents):
        if os.path.lexists(folder):
            break
        missing.append(folder)
    return missing


def _is_link(status: os.stat_result) -> bool:
    """Whether an entry points elsewhere: a link, or a junction on Windows."""
    junction = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)
    tag = getattr(status, "st_reparse_tag", None)
    return stat.S_ISLNK(status.st_mode) or (tag is not None and tag == junction)
