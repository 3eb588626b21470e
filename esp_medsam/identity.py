"""Identify an input by its content, before reading it and again before writing results."""

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
    """The system's status of a file: if all fields are the same, nobody has written to the file.

    Attributes:
        device: The file system that holds the file.
        inode: Number of the file there; it differs if the file was replaced.
        size: Size in bytes.
        modified_ns: When its content was last written; the owner can set this time.
        changed_ns: When anything about the file last changed; nobody can set this time.
    """

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileState:
        """Return the state of a file from its status."""
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
        state: Its state when it was opened.
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
        """When the most recently written file was written."""
        return max(file.state.modified_ns for file in self.files)

    @property
    def sha256(self) -> str:
        """Hash of the content, independent of the names and the order of the files.

        For one file, its hash; for several, the hash of their sorted hashes, one per line.
        """
        hashes = sorted(file.sha256 for file in self.files)
        if len(hashes) == 1:
            return hashes[0]
        return hashlib.sha256("".join(f"{line}\n" for line in hashes).encode()).hexdigest()


def identify(paths: Iterable[str | os.PathLike[str]]) -> Identity:
    """Return the identity of an input's files, before anything else reads them.

    Raises:
        InputNotFoundError: If a file does not exist.
        ReadError: If a file cannot be read.
    """
    return Identity(tuple(_identify(path) for path in sorted({os.fspath(path) for path in paths})))


def check_unchanged(identity: Identity | None) -> None:
    """Refuse an input that has changed, because what was read may match neither version.

    An input without files has no identity, and passes.

    Content is hashed again only if the state of a file has changed. A file that was touched, moved
    away and back, or replaced by a copy of itself counts as unchanged.

    Raises:
        InputChangedError: If the content of a file has changed.
        InputNotFoundError: If a file is gone.
        ReadError: If a file can no longer be read.
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
        OSError: If the file cannot be read, or is not a regular file.
    """
    with open_regular(path) as file:
        return _sha256(file)


def states_of(paths: Iterable[str | os.PathLike[str]]) -> list[FileState]:
    """Return the states of files without opening them.

    Raises:
        InputNotFoundError: If a file does not exist.
        ReadError: If the system does not tell the state of a file.
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
            # The state comes first, so that a write during hashing shows up later.
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
