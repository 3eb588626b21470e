"""What a run takes: one file, or every readable image below a folder."""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from esp_medsam import io
from esp_medsam.errors import EmptyInputError, InputNotFoundError, NameClashError
from esp_medsam.io.atomic import is_ours


logger = logging.getLogger(__name__)

Item = dict[str, str]
"""``image`` (path), ``name`` (what its outputs are called) and ``relative_dir``."""

_NAMED = 5
"""Files left out that the log names; the rest is counted."""


@dataclass(frozen=True)
class Plan:
    """The items of a run, and what it leaves alone.

    Attributes:
        items: What is to be segmented, sorted by path.
        refused: Items that cannot be taken, each with the reason.
        others: Files that are no images.
        outputs: Our own outputs of this or an earlier run.
    """

    items: tuple[Item, ...]
    refused: tuple[tuple[Item, NameClashError], ...] = ()
    others: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


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
    for path in _files(root, Path(output_dir).resolve()):
        if not _chosen(path.relative_to(root).as_posix(), include, exclude):
            continue
        if not io.is_image(path) or path.name.startswith("."):
            (outputs if _is_output(path) else others).append(str(path))
        elif _is_output(path):
            outputs.append(str(path))
        else:
            images.append(path)
    if not images:
        msg = f"dataset_dir must hold at least one readable image ({', '.join(io.SUFFIXES)}); "
        raise EmptyInputError(msg + f"got {root} with {_counted(others, outputs)}.")
    if others or outputs:
        logger.info("Left alone in %s: %s.", root, _counted(others, outputs))
    items = [_item(path, path.parent.relative_to(root).as_posix()) for path in images]
    kept, refused = _without_clashes(items)
    return Plan(kept, refused, tuple(others), tuple(outputs))


def _files(root: Path, output_dir: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted, without the output folder and loops of links."""
    above: list[tuple[Path, frozenset[Path]]] = [(root, frozenset())]
    while above:
        folder, parents = above.pop()
        real = folder.resolve()
        if real in parents or (real == output_dir and folder != root):
            continue
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        yield from (folder / entry.name for entry in entries if entry.is_file())
        below = [folder / entry.name for entry in entries if entry.is_dir()]
        above.extend((path, parents | {real}) for path in reversed(below))


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
    """Whether a file is one of our results: by its name first, then by its mark or its record."""
    stems = [path.name[: end.start()] for end in re.finditer(r"_seg(?=[._])", path.name)]
    if not stems:
        return False
    # A killed run leaves marked images without a record.
    return is_ours(path) or any(path.with_name(f"{s}_seg.json").is_file() for s in stems)


def _item(path: Path, relative_dir: str) -> Item:
    """Describe one file, for the loader and the saver."""
    relative_dir = "" if relative_dir == os.curdir else relative_dir
    return {"image": str(path), "name": io.name_of(path), "relative_dir": relative_dir}


def _without_clashes(
    items: list[Item],
) -> tuple[tuple[Item, ...], tuple[tuple[Item, NameClashError], ...]]:
    """Split items into those whose outputs have names of their own, and the rest."""
    by_output: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_output[f"{item['relative_dir']}/{item['name']}".casefold()].append(item)
    kept = [group[0] for group in by_output.values() if len(group) == 1]
    refused = []
    for group in by_output.values():
        for item in group if len(group) > 1 else ():
            rivals = ", ".join(other["image"] for other in group if other is not item)
            msg = f"An image must have an output name of its own; {item['image']} shares "
            refused.append((item, NameClashError(msg + f"{item['name']}_seg with {rivals}.")))
    return tuple(kept), tuple(refused)


def _counted(others: list[str], outputs: list[str]) -> str:
    """Say how many files are left out, naming the first."""
    named = ", ".join(Path(path).name for path in others[:_NAMED])
    more = ", ..." if len(others) > _NAMED else ""
    said = f"{len(others)} other files" + (f" ({named}{more})" if others else "")
    return f"{said} and {len(outputs)} outputs of earlier runs"
