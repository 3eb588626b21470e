"""What a run takes: one file, or every readable image below a folder."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from esp_medsam import io
from esp_medsam.errors import (
    EmptyInputError,
    EspMedSamError,
    InputNotFoundError,
    NameClashError,
    ReadError,
    one_line,
)
from esp_medsam.io.atomic import is_ours


Item = dict[str, str]
"""``image`` (path), ``name`` (what its outputs are called) and ``relative_dir``."""

_NAMED = 5
"""Other files that are named; the rest is counted."""


@dataclass(frozen=True)
class Plan:
    """The items of a run, and what it leaves alone.

    Attributes:
        items: What is to be segmented, sorted by path.
        refused: Items, and folders, that cannot be taken, each with the reason.
        others: Files that are no images.
        outputs: Our own outputs of this or an earlier run.
    """

    items: tuple[Item, ...]
    refused: tuple[tuple[Item, EspMedSamError], ...] = ()
    others: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def left_alone(self) -> str:
        """What is no item, in one line; empty where there is nothing else."""
        return _counted(self.others, self.outputs) if self.others or self.outputs else ""


def plan_items(
    dataset_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    include: Sequence[str] | str | None = None,
    exclude: Sequence[str] | str | None = None,
) -> Plan:
    """Find the images to segment.

    Left out are our own outputs, the output folder where it lies inside the input, hidden files,
    and what ``include`` and ``exclude`` say. Images that would share an output's name, case
    ignored, are refused, each with the others' names; the rest goes on.

    Args:
        dataset_dir: Folder, searched in depth, or one file.
        output_dir: Where outputs go.
        include: Patterns (``*``, ``?``) of paths below the folder, one of which must match; None
            means all.
        exclude: Patterns of paths to leave out.

    Raises:
        InputNotFoundError: If ``dataset_dir`` does not exist.
        EmptyInputError: If nothing is left to segment.
    """
    root = Path(dataset_dir)
    if root.is_file():
        return Plan((_item(root, ""),))
    if not root.is_dir():
        msg = f"dataset_dir must be an existing file or folder; got {root}."
        raise InputNotFoundError(msg)

    images: list[Path] = []
    others: list[str] = []
    outputs: list[str] = []
    unreadable: list[Path] = []
    for path in _files(root, Path(output_dir).resolve(), unreadable):
        if not _chosen(path.relative_to(root).as_posix(), include, exclude):
            continue
        if _is_output(path):
            outputs.append(str(path))
        elif not io.is_image(path) or path.name.startswith(".") or not path.is_file():
            others.append(str(path))
        else:
            images.append(path)
    if not images and not unreadable:
        msg = f"dataset_dir must hold at least one readable image ({', '.join(io.SUFFIXES)}); "
        raise EmptyInputError(msg + f"got {root} with {_counted(others, outputs)}.")
    items = [_item(path, path.parent.relative_to(root).as_posix()) for path in images]
    kept, refused = _without_clashes(items)
    refused += tuple((_item(folder, ""), _unreadable(folder)) for folder in unreadable)
    return Plan(kept, refused, tuple(others), tuple(outputs))


def _files(root: Path, output_dir: Path, unreadable: list[Path]) -> Iterator[Path]:
    """Yield the files below a folder, sorted, without the output folder and loops of links.

    Folders that cannot be listed are added to ``unreadable``.
    """
    above: list[tuple[Path, frozenset[Path]]] = [(root, frozenset())]
    while above:
        folder, parents = above.pop()
        real = folder.resolve()
        if real in parents or (real == output_dir and folder != root):
            continue
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            unreadable.append(folder)
            continue
        is_folder = [path.is_dir() for path in entries]
        yield from (path for path, below in zip(entries, is_folder, strict=True) if not below)
        folders = [path for path, below in zip(entries, is_folder, strict=True) if below]
        above.extend((path, parents | {real}) for path in reversed(folders))


def _chosen(
    path: str, include: Sequence[str] | str | None, exclude: Sequence[str] | str | None
) -> bool:
    """Whether the patterns take a path."""
    wanted = [include] if isinstance(include, str) else include
    unwanted = [exclude] if isinstance(exclude, str) else exclude
    return (not wanted or any(fnmatch(path, pattern) for pattern in wanted)) and not any(
        fnmatch(path, pattern) for pattern in unwanted or ()
    )


def _is_output(path: Path) -> bool:
    """Whether a file is one of our results: by its name, and its own mark or its record's."""
    stems = [path.name[: end.start()] for end in re.finditer(r"_seg(?=[._])", path.name)]
    if not stems:
        return False
    # A killed run leaves no record; an image that a viewer saved anew has lost its mark.
    return is_ours(path) or any(is_ours(path.with_name(f"{s}_seg.json")) for s in stems)


def _item(path: Path, relative_dir: str) -> Item:
    """Describe one file, for the loader and the saver."""
    relative_dir = "" if relative_dir == os.curdir else relative_dir
    return {"image": str(path), "name": io.name_of(path), "relative_dir": relative_dir}


def _without_clashes(
    items: list[Item],
) -> tuple[tuple[Item, ...], tuple[tuple[Item, EspMedSamError], ...]]:
    """Split items into those whose outputs have names of their own, and the rest."""
    by_output: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_output[f"{item['relative_dir']}/{item['name']}".casefold()].append(item)
    kept = [group[0] for group in by_output.values() if len(group) == 1]
    refused: list[tuple[Item, EspMedSamError]] = []
    for group in by_output.values():
        for item in group if len(group) > 1 else ():
            rivals = ", ".join(other["image"] for other in group if other is not item)
            msg = f"An image must have an output name of its own; {item['image']} shares "
            refused.append((item, NameClashError(msg + f"{item['name']}_seg with {rivals}.")))
    return tuple(kept), tuple(refused)


def _unreadable(folder: Path) -> ReadError:
    """Say that a folder cannot be listed."""
    return ReadError(f"A folder of the input must be readable; {folder} cannot be listed.")


def _counted(others: Sequence[str], outputs: Sequence[str]) -> str:
    """Say how many files are left out, naming the first."""
    named = ", ".join(Path(path).name for path in others[:_NAMED])
    more = ", ..." if len(others) > _NAMED else ""
    said = f"{len(others)} other files" + (f" ({named}{more})" if others else "")
    return one_line(f"{said}, {len(outputs)} outputs of earlier runs")
