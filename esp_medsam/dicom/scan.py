"""Find the volumes in a DICOM folder from headers alone."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from esp_medsam.dicom.dicom_file import is_dicom
from esp_medsam.dicom.header import Header, read_header
from esp_medsam.dicom.joining import (
    SERIES,
    SeriesKey,
    check_join,
    hints,
    series_of,
    with_series_joined,
)
from esp_medsam.dicom.series import volumes_of
from esp_medsam.dicom.strays import DAMAGED, Stray, find_strays, with_strays
from esp_medsam.dicom.volume import DicomVolume
from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    InputNotFoundError,
    ReadError,
    not_found,
)


__all__ = ["Found", "find_in_folders", "find_volumes", "is_dicom", "list_files"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """The DICOM content of a folder or a file.

    Attributes:
        volumes: Volumes that can be read, sorted by name.
        refused: Name and reason of each volume or file that cannot be read, sorted by name.
        others: Files that are not DICOM images, sorted: foreign files, reports, segmentations.
    """

    volumes: tuple[DicomVolume, ...] = ()
    refused: tuple[tuple[str, EspMedSamError], ...] = ()
    others: tuple[str, ...] = ()


def find_volumes(
    path: str | Path,
    files: Sequence[str | Path] | None = None,
    join: Iterable[str] = (),
) -> Found:
    """Return the volumes in a DICOM file or in the files of a folder.

    Args:
        path: A file, which is taken alone, or a folder, whose files are taken but not those in its
            subfolders.
        files: The only files of the folder to take, as an earlier scan found them; None takes all
            and reports which of them may be unreadable images.
        join: What to join although the files keep it apart, from
            :data:`~esp_medsam.dicom.joining.JOINS`.

    Returns:
        Volumes, refusals and other files. An unreadable file is refused together with the stack
        that it belongs to.

    Raises:
        InputNotFoundError: If there is nothing at ``path``.
        ReadError: If the folder cannot be listed.
        OptionError: If ``join`` has an unknown entry.
    """
    joins = check_join(join)
    if files is not None:
        read = _read(map(Path, files))
    else:
        path = Path(path)
        read = _read(list_files(path), with_strays=path.is_dir())
    _join_or_hint([read], joins)
    return _found(read, joins)


def find_in_folders(
    folders: Sequence[Path],
    is_chosen: Callable[[Path], bool] = lambda _: True,
    join: Iterable[str] = (),
) -> Iterator[tuple[Path, Found]]:
    """Yield what each folder holds, with a stack that spans several folders as one volume.

    Some media and exports fill each folder with a fixed number of files, whatever their series. A
    stack across folders is yielded with their common parent. If folders share instances, as copies
    do, each is taken alone, and a volume that is only part of its series carries a note.

    Args:
        folders: Folders whose files are taken, but not those in their subfolders.
        is_chosen: Whether an unreadable file counts; files that the user left out do not.
        join: What to join although files keep it apart, from
            :data:`~esp_medsam.dicom.joining.JOINS`.

    Raises:
        InputNotFoundError: If a folder is gone.
        ReadError: If a folder cannot be listed.
        OptionError: If ``join`` has an unknown entry.
    """
    joins = check_join(join)
    held = {folder: _read(list_files(folder), with_strays=True) for folder in folders}
    for read in held.values():
        read.strays = [stray for stray in read.strays if is_chosen(Path(stray.path))]
    _join_or_hint(list(held.values()), joins)
    spread: defaultdict[SeriesKey, dict[Path, list[Header]]] = defaultdict(dict)
    for folder, read in held.items():
        for header in read.headers:
            if header.positioned and header.series_uid:
                spread[series_of(header)].setdefault(folder, []).append(header)
    whole: list[tuple[Path, Found]] = []
    for parts in spread.values():
        instances = {folder: {h.sop_instance_uid for h in parts[folder]} for folder in parts}
        every = set().union(*instances.values())
        if sum(map(len, instances.values())) == len(every) and len(parts) > 1:
            headers = [header for part in parts.values() for header in part]
            paths = {header.path for header in headers}
            for folder in parts:
                held[folder].headers = [h for h in held[folder].headers if h.path not in paths]
            strays = [stray for folder in parts for stray in held[folder].strays]
            notes: dict[SeriesKey, str] = {}
            for folder in parts:
                notes |= held[folder].notes
            together = _Read(headers=headers, strays=strays, notes=notes)
            whole.append((Path(os.path.commonpath(list(parts))), _found(together, joins)))
            continue
        for folder, own in instances.items():
            if own != every:
                note = _part(len(own), len(every), len(instances))
                held[folder].notes[series_of(parts[folder][0])] = note
    yield from ((folder, _found(read, joins)) for folder, read in held.items())
    yield from whole


def _part(own: int, every: int, folders: int) -> str:
    """Return the note for a partial series whose other images lie in other folders."""
    return (
        f"This volume holds {own} of the {every} images of its series; they lie in {folders} "
        "folders, some as copies."
    )


@dataclass
class _Read:
    """The headers of files, the files that could not be read, and those that are not images."""

    headers: list[Header] = field(default_factory=list)
    refused: list[tuple[str, EspMedSamError]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    strays: list[Stray] = field(default_factory=list)
    notes: dict[SeriesKey, str] = field(default_factory=dict)
    """Notes for the user, by study and series."""


def _read(files: Iterable[Path], *, with_strays: bool = False) -> _Read:
    read = _Read()
    foreign, damaged = [], []
    for file in files:
        if file.name.startswith(".") or not is_dicom(file):
            read.others.append(os.fspath(file))
            foreign.append(file)
            continue
        try:
            header = read_header(file)
        except EspMedSamError as error:
            read.refused.append((file.stem, error))
            damaged.append(os.fspath(file))
            continue
        if header is None:
            read.others.append(os.fspath(file))
        else:
            read.headers.append(header)
    if with_strays:
        damaged += [h.path for h in read.headers if h.problem is not None and not h.series_uid]
        siblings = [Path(header.path).name for header in read.headers]
        read.strays = find_strays(foreign, siblings)
        read.strays += [Stray(path, DAMAGED) for path in damaged]
    return read


def _join_or_hint(reads: Sequence[_Read], joins: frozenset[str]) -> None:
    """Join lone slices if the user asks for it; otherwise note which look like neighbors."""
    headers = [header for read in reads for header in read.headers]
    if SERIES in joins:
        joined = {header.path: header for header in with_series_joined(headers, joins)}
        for read in reads:
            read.headers = [joined[header.path] for header in read.headers]
        return
    told = hints(headers)
    for read in reads:
        own = set(map(series_of, read.headers))
        read.notes |= {key: note for key, note in told.items() if key in own}


def _found(read: _Read, joins: frozenset[str]) -> Found:
    """Return the volumes that the headers make up."""
    volumes: list[DicomVolume] = []
    refused = list(read.refused)
    for series in _by_series(read.headers):
        for name, result in volumes_of(series, joins):
            if isinstance(result, DicomVolume):
                note = read.notes.get(series_of(series[0]))
                told = replace(result, warnings=(*result.warnings, note)) if note else result
                try:
                    volumes.append(with_strays(told, series, read.strays))
                except CorruptFileError as error:
                    refused.append((name, error))
            else:
                refused.append((name, result))
    return Found(
        volumes=tuple(sorted(volumes, key=lambda volume: volume.name)),
        refused=tuple(sorted(refused, key=lambda entry: (entry[0], str(entry[1])))),
        others=tuple(read.others),
    )


def list_files(path: Path) -> list[Path]:
    """Return a file alone, or the files of a folder without its subfolders, sorted.

    Raises:
        InputNotFoundError: If there is nothing at ``path``.
        ReadError: If the folder cannot be listed.
    """
    try:
        if not path.exists():
            raise not_found(path, "file or folder")
        if not path.is_dir():
            return [path]
        return sorted(file for file in path.iterdir() if not file.is_dir())
    except InputNotFoundError:
        raise
    except OSError as error:
        msg = f"{path} must be a folder that can be listed; got: {error.strerror}."
        raise ReadError(msg) from error


def _by_series(headers: Sequence[Header]) -> list[list[Header]]:
    groups: defaultdict[SeriesKey, list[Header]] = defaultdict(list)
    for header in headers:
        groups[series_of(header)].append(header)
    return [groups[key] for key in sorted(groups)]
