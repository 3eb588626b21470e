"""Track input files, which outputs must never replace."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from esp_medsam.errors import OutputError


class InputFiles:
    """Finder of inputs that outputs would replace, whatever path leads to them.

    Files are identified by device and inode, which also covers files behind links and links that
    are inputs themselves.

    Args:
        paths: The inputs; iterated once, when an output might replace one.
        ending: Matches the end of an output name's stem; applied to the name in lower case.
        is_none: Whether a file is known not to be an input, without iterating over the inputs.
    """

    def __init__(
        self,
        paths: Iterable[Path],
        ending: re.Pattern[str],
        is_none: Callable[[Path], bool] = lambda _: False,
    ) -> None:
        self._paths = paths
        self._ending = ending
        self._is_none = is_none
        self._found: dict[Path, dict[str, Path]] = {}

    def replaced_by(self, stem: Path) -> Path | None:
        """Return an input that an output whose name begins with ``stem`` would replace.

        Case is ignored, as it is by some file systems.
        """
        folder = stem.parent
        if folder not in self._found:
            self._found = {folder: self._inputs_in(folder)}  # of the last folder only
        return self._found[folder].get(stem.name.casefold())

    def _inputs_in(self, folder: Path) -> dict[str, Path]:
        """Return the inputs in a folder, keyed by the stems of outputs that would replace them."""
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries]
        except OSError:  # the folder does not exist yet, or its writer will report the error
            return {}
        found = {}
        for name in names:
            begins = [name.casefold()[: m.end()] for m in self._ending.finditer(name.casefold())]
            if not begins or self._is_none(folder / name):
                continue
            if (path := self._input_at(folder / name)) is not None:
                found.update(dict.fromkeys(begins, path))
        return found

    def _input_at(self, path: Path) -> Path | None:
        with suppress(OSError):
            return self._inodes.get(_inode(path.lstat()))
        return None

    @cached_property
    def _inodes(self) -> dict[tuple[int, int], Path]:
        """Inputs by device and inode, of both the file and a link to it."""
        inodes = {}
        for path in self._paths:
            with suppress(OSError):
                inodes[_inode(path.lstat())] = path
                inodes[_inode(path.stat())] = path
        return inodes


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def would_replace(label: str, stem: Path, path: Path) -> OutputError:
    """Return the error that an output of an item would replace an input."""
    msg = (
        f"An output must not replace an input; outputs of {label} begin with {stem}, as does "
        f"the input {path}. Choose another output folder, or rename {path.name}."
    )
    return OutputError(msg)
