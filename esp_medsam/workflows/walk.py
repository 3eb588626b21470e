"""Walk all files below a folder, whole or in parts, without following link loops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from esp_medsam.errors import ReadError


_Inode = tuple[int, int]
"""A file system and an inode number: identifies a folder whatever path leads to it."""


class Part(NamedTuple):
    """A part of the contents of a folder.

    Attributes:
        folder: Folder of the part.
        is_whole: Whether the part is everything below the folder, or only the folder's own files.
        above: Folders on the path to this one; links back into them are not followed.
    """

    folder: Path
    is_whole: bool = True
    above: frozenset[_Inode] = frozenset()


def parts_below(root: Path, most_files: int, *, without: Path | None = None) -> Iterator[Part]:
    """Yield the parts of a folder: the folder itself if it holds few files, else its subfolders'.

    A folder is not divided if it cannot be listed, or if some file systems do not distinguish the
    names of its subfolders.

    Args:
        root: The folder.
        most_files: Maximum number of files in a part; more if they are all in one folder.
        without: A folder to skip.
    """
    waiting = [Part(root)]
    while waiting:
        part = waiting.pop()
        files = files_below(part.folder, [], without=without, above=part.above)
        is_small = sum(1 for _ in islice(files, most_files + 1)) <= most_files
        names = [] if is_small else _folders_in(part.folder)
        if len({name.casefold() for name in names}) < max(len(names), 1):
            yield part
            continue
        inode = _inode(part.folder)
        above = part.above if inode is None else part.above | {inode}
        yield part._replace(is_whole=False)
        passed_over = above | {_inode(without)} if without is not None else above
        folders = [part.folder / name for name in reversed(names)]
        waiting += [
            Part(path, above=above)
            for path in folders
            if (inode := _inode(path)) is None or inode not in passed_over
        ]


def _folders_in(folder: Path) -> list[str]:
    """Return the sorted names of a folder's subfolders; empty if it cannot be listed."""
    try:
        with os.scandir(folder) as listed:
            return sorted(entry.name for entry in listed if _is_folder(entry))
    except OSError:
        return []


def files_of_part(
    part: Part, unreadable: list[tuple[Path, OSError]], *, without: Path | None = None
) -> Iterator[Path]:
    """Yield the files of a part; arguments as for :func:`files_below`."""
    if part.is_whole:
        yield from files_below(part.folder, unreadable, without=without, above=part.above)
        return
    try:
        with os.scandir(part.folder) as listed:
            names = sorted(entry.name for entry in listed if not _is_folder(entry))
    except OSError as error:
        unreadable.append((part.folder, error))
        return
    yield from (part.folder / name for name in names)


def files_below(
    root: Path,
    unreadable: list[tuple[Path, OSError]],
    *,
    without: Path | None = None,
    follow_links: bool = True,
    above: frozenset[_Inode] = frozenset(),
) -> Iterator[Path]:
    """Yield everything below a folder except folders, sorted, folder by folder.

    Args:
        root: The folder.
        unreadable: Receives the folders that cannot be listed, with the errors.
        without: A folder to skip; it may be created during the walk.
        follow_links: Whether to enter folders through links, except links that lead back up.
        above: Folders on the path to the root.
    """
    waiting: list[tuple[Path, frozenset[_Inode]]] = [(root, above)]
    while waiting:
        folder, parents = waiting.pop()
        inode = _inode(folder)
        left_out = None if without is None else _inode(without)
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
        waiting.extend((path, known) for path in reversed(below))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link loop, or a path that is too long, which may still be a folder
        return not entry.is_symlink() and entry.is_dir(follow_symlinks=False)


def _inode(path: Path) -> _Inode | None:
    """Return the file system and inode that a path leads to; None if it leads to nothing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_there(path: Path) -> bool:
    """Whether a path leads to anything; False if the system cannot tell."""
    return os.path.exists(path)  # noqa: PTH110  # Path's raises where a name is too long


def is_regular(path: Path) -> bool:
    """Whether a path leads to a regular file; False if the system cannot tell."""
    return os.path.isfile(path)  # noqa: PTH113  # Path's raises where a name is too long


def cannot_be_listed(folder: Path, error: OSError) -> ReadError:
    """Return the error for a folder that cannot be listed."""
    reason = error.strerror or type(error).__name__
    msg = f"A folder of the input must be readable; {folder} cannot be listed: {reason}."
    return ReadError(msg)
