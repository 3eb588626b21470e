"""Walk all files below a folder, without following link loops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from esp_medsam.errors import ReadError


_Inode = tuple[int, int]
"""A file system and a number in it: a folder has one, whatever leads to it."""


def files_below(
    root: Path,
    unreadable: list[tuple[Path, OSError]],
    *,
    without: Path | None = None,
    follow_links: bool = True,
) -> Iterator[Path]:
    """Yield all that is no folder below a folder, sorted, folder by folder.

    Args:
        root: The folder.
        unreadable: Takes the folders that cannot be listed, and why.
        without: A folder to pass over.
        follow_links: Whether to enter folders through links; never one that leads back up.
    """
    left_out = None if without is None else _inode(without)
    above: list[tuple[Path, frozenset[_Inode]]] = [(root, frozenset())]
    while above:
        folder, parents = above.pop()
        inode = _inode(folder)
        if inode in parents or (folder != root and inode is not None and inode == left_out):
            continue
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            unreadable.append((folder, error))
            continue
        below = []
        for entry in entries:
            if not _is_folder(entry):
                yield folder / entry.name
            elif follow_links or not entry.is_symlink():
                below.append(folder / entry.name)
        known = parents if inode is None else parents | {inode}
        above.extend((path, known) for path in reversed(below))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a loop of links; a folder whose path is too long is one all the same
        return not entry.is_symlink() and entry.is_dir(follow_symlinks=False)


def _inode(path: Path) -> _Inode | None:
    """Return what a path leads to; None where that is nothing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_there(path: Path) -> bool:
    """Whether a path leads to anything; False where the system does not say."""
    return os.path.exists(path)  # noqa: PTH110  # Path's raises where a name is too long


def is_regular(path: Path) -> bool:
    """Whether a path leads to a regular file; False where the system does not say."""
    return os.path.isfile(path)  # noqa: PTH113  # Path's raises where a name is too long


def cannot_be_listed(folder: Path, error: OSError) -> ReadError:
    """Say that a folder cannot be listed."""
    reason = error.strerror or type(error).__name__
    msg = f"A folder of the input must be readable; {folder} cannot be listed: {reason}."
    return ReadError(msg)
