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
    """Finds inputs where outputs would go, whatever path leads there.

    A file is known by its number in the file system: so are those that lie behind links, and links
    that are inputs themselves.

    Args:
        paths: The inputs; gone through once, where an output might replace one.
        ending: Ends what the names of an item's outputs begin with; matched in lower case.
        is_none: Whether a file is known to be no input, without going through them.
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
        """Return an input that an output would replace whose name begins with ``stem``.

        Case is ignored, as some file systems do.
        """
        folder = stem.parent
        if folder not in self._found:
            self._found = {folder: self._inputs_in(folder)}  # of the last folder alone
        return self._found[folder].get(stem.name.casefold())

    def _inputs_in(self, folder: Path) -> dict[str, Path]:
        """Return the inputs that are entries of a folder, by what outputs would begin with."""
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries]
        except OSError:  # not there yet, or told by whoever writes to it
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
        """The inputs by what tells a file, and a link to it, from all others."""
        inodes = {}
        for path in self._paths:
            with suppress(OSError):
                inodes[_inode(path.lstat())] = path
                inodes[_inode(path.stat())] = path
        return inodes


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def would_replace(label: str, stem: Path, path: Path) -> OutputError:
    """Say that an input stands where an output of an item would go."""
    msg = (
        f"An output must not replace an input; outputs of {label} begin with {stem}, as does "
        f"the input {path}. Choose another output folder, or rename {path.name}."
    )
    return OutputError(msg)
