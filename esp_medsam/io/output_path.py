"""Check where outputs may go, before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from esp_medsam.errors import EspMedSamError, OutputError
from esp_medsam.identity import Identity
from esp_medsam.io.atomic import output_error
from esp_medsam.io.folder import entered, missing_folders


PREVIEW_ENDINGS = ("_preview.png", "_preview.jpg")
"""Endings that the stem of a result may get for its picture."""

_MAX_NAME = 255
"""Longest file name that file systems accept, in bytes; on Windows in characters."""


def output_stem(output_dir: str | Path, relative_dir: str, name: str) -> Path:
    """Return ``<output_dir>/<relative_dir>/<name>_seg``, to which endings are added.

    Raises:
        OutputError: If the path would lie outside ``output_dir``.
    """
    root = Path(output_dir)
    folder = root / relative_dir
    inside = not Path(relative_dir).is_absolute() and ".." not in Path(relative_dir).parts
    if not inside or name in ("", ".", "..") or Path(name).name != name or "\0" in name:
        msg = f"Outputs must be inside {root}; got folder {relative_dir!r} and name {name!r}."
        raise OutputError(msg)
    return folder / f"{name}_seg"


def record_path(stem: Path) -> Path:
    """Return the path of the record of the outputs that begin with ``stem``."""
    return stem.with_name(f"{stem.name}.json")


def check_output_dir(output_dir: str | os.PathLike[str]) -> None:
    """Refuse a folder that is not writable; it is not created, and nothing is left in it.

    A file is created to find out, because file systems that are read-only, gone, or out of inodes
    do not answer a query alike.

    Raises:
        OutputError: If it is not a folder, is not writable, or its name is too long.
    """
    path = Path(output_dir)
    try:
        missing = missing_folders(path)
        _check_names(missing, "Choose a shorter one.")
        there = path if not missing else missing[-1].parent
        if not there.is_dir():
            msg = f"{path} must be a folder to write to; {there} is not a folder."
            raise OutputError(msg)
        with entered(there, make=False) as folder:
            folder.check_writable()
    except EspMedSamError:
        raise
    except OSError as error:
        raise output_error(path, error) from error


def check_outputs(paths: Iterable[Path], root: Path) -> None:
    """Refuse names that no file system accepts, and places that a link leads to.

    Args:
        paths: Files to write, all in one folder.
        root: Folder above it, below which no link is followed.

    Raises:
        OutputError: If a file certainly cannot be written.
    """
    paths = list(paths)
    _check_names(paths, "Shorten the input's name, or leave out the option that lengthens it.")
    for path in paths[:1]:
        try:
            with suppress(FileNotFoundError):
                path.lstat()  # raises if the whole path is too long
            with suppress(FileNotFoundError), entered(path.parent, root, make=False):
                pass
        except EspMedSamError:
            raise
        except OSError as error:
            raise output_error(path, error) from error


def refuse_inputs(paths: Iterable[Path], identity: Identity | None) -> None:
    """Refuse to replace a file of the input whose result is to be written.

    Args:
        paths: Files to write.
        identity: The input; None if it was not read from a file.

    Raises:
        OutputError: If a file to write is a file of the input.
    """
    files = () if identity is None else identity.files
    held = {(file.state.device, file.state.inode): file.path for file in files}
    for path in paths:
        if not os.path.lexists(path):
            continue
        status = path.lstat()
        if source := held.get((status.st_dev, status.st_ino)):
            msg = (
                f"An output must not replace an input; {path} is the input {source}. Choose "
                "another output folder, or rename the input."
            )
            raise OutputError(msg)


def _check_names(paths: Iterable[Path], remedy: str) -> None:
    for path in paths:
        length = len(path.name if os.name == "nt" else os.fsencode(path.name))
        if length > _MAX_NAME:
            msg = (
                f"The name of an output must have at most {_MAX_NAME} bytes; {path} has {length}. "
            )
            raise OutputError(msg + remedy)
