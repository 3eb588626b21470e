"""Identify an input by its content, before it is read and again before results are written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from esp_medsam.errors import InputChangedError, InputNotFoundError, ReadError, not_found
from esp_medsam.regular_file import open_regular, unreadable


_BLOCK = 2**20


class FileState(NamedTuple):
    """What the system says of a file: where all of it is the same, nobody has written to it.

    Attributes:
        device: The file system it lies on.
        inode: Its number there; another one where the file was replaced.
        size: In bytes.
        modified_ns: When its content was written last, as its owner may set it.
        changed_ns: When anything of it was changed last, which nobody can set.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileState:
        """Return the state that a status tells."""
        return cls(
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )


@dataclass(frozen=True)
class FileIdentity:
    """One file, as it was when it was opened.

    Attributes:
        path: The file.
        state: What the system said of it.
        sha256: Hash of its content.
    """

    path: str
    state: FileState
    sha256: str


@dataclass(frozen=True)
class Identity:
    """All files of an input, as they were before it was read.

    Attributes:
        files: The files, sorted by path.
    """

    files: tuple[FileIdentity, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.state.size for file in self.files)

    @property
    def modified_ns(self) -> int:
        """When the newest of them was written."""
        return max(file.state.modified_ns for file in self.files)

    @property
    def sha256(self) -> str:
        """Hash of the content, whatever the files are called and in whatever order.

        Of one file it is the file's own; of several that of their hashes, sorted, a line each.
        """
        hashes = sorted(file.sha256 for file in self.files)
        if len(hashes) == 1:
            return hashes[0]
        return hashlib.sha256("".join(f"{line}\n" for line in hashes).encode()).hexdigest()


def identify(paths: Iterable[str | os.PathLike[str]]) -> Identity:
    """Take the identity of an input's files, before anything else reads them.

    Raises:
        InputNotFoundError: If one is not there.
        ReadError: If one cannot be read.
    """
    return Identity(tuple(_identify(path) for path in sorted({os.fspath(path) for path in paths})))


def check_unchanged(identity: Identity | None) -> None:
    """Refuse an input that is no longer what it was: what was read may be of neither.

    What came from no file, and has no identity, passes.

    Content is hashed again only where the system says that something happened to a file. One that
    was touched, moved away and back, or replaced by a copy of itself is the same.

    Raises:
        InputChangedError: If the content of a file is another one.
        InputNotFoundError: If a file is gone.
        ReadError: If one can no longer be read.
    """
    for file in identity.files if identity is not None else ():
        if _state(file.path) != file.state and _identify(file.path).sha256 != file.sha256:
            msg = (
                f"{file.path} must not change before its result is written; it did. Run again "
                "once nothing writes to it."
            )
            raise InputChangedError(msg)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: If it cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        return _sha256(file)


def states_of(paths: Iterable[str | os.PathLike[str]]) -> list[FileState]:
    """Return what the system says of files, which are not opened.

    Raises:
        InputNotFoundError: If one is not there.
        ReadError: If the system does not say.
    """
    return [_state(os.fspath(path)) for path in paths]


def _state(path: str) -> FileState:
    try:
        return FileState.of(Path(path).stat())
    except OSError as error:
        raise _unreadable(path, error) from error


def _identify(path: str) -> FileIdentity:
    try:
        with open_regular(path) as file:
            # The state first: what is written while the file is hashed shows afterwards.
            return FileIdentity(path, FileState.of(os.fstat(file.fileno())), _sha256(file))
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> InputNotFoundError | ReadError:
    if isinstance(error, FileNotFoundError):
        return not_found(path)
    return unreadable(path, error)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()
