"""What volumes the DICOM files of one folder make up: headers only, no pixels."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from esp_medsam.dicom.dicom_file import is_dicom
from esp_medsam.dicom.geometry import check_usable, picture_geometry, stack_geometry
from esp_medsam.dicom.header import Header, read_header
from esp_medsam.dicom.joining import (
    FRAME_OF_REFERENCE,
    INTERLEAVED,
    SERIES,
    SeriesKey,
    check_join,
    hints,
    series_of,
    with_series_joined,
)
from esp_medsam.dicom.split import Part, count_places, parts_of, split_series
from esp_medsam.dicom.strays import DAMAGED, Stray, find_strays, with_strays
from esp_medsam.dicom.volume import DicomSlice, DicomVolume
from esp_medsam.dicom.volume_names import Split, name_of, told_values
from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    FormatError,
    GeometryError,
    InputNotFoundError,
    ReadError,
)


__all__ = ["Found", "find_in_folders", "find_volumes", "is_dicom", "list_files"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a folder, or a file, holds.

    Attributes:
        volumes: What can be read, sorted by name.
        refused: Name and reason of each volume, or file, that cannot be; sorted by name.
        others: Files that are no DICOM images, sorted: foreign ones, reports, segmentations.
    """

    volumes: tuple[DicomVolume, ...] = ()
    refused: tuple[tuple[str, EspMedSamError], ...] = ()
    others: tuple[str, ...] = ()


def find_volumes(
    path: str | Path,
    files: Sequence[str | Path] | None = None,
    join: Iterable[str] = (),
) -> Found:
    """Return the volumes that a DICOM file, or the files of a folder, make up.

    Args:
        path: A file, which is taken alone, or a folder, of which the files in it are taken but not
            those in folders below.
        files: Files of the folder to take alone, as an earlier look found them; None takes all,
            and tells which of them may be images that cannot be read.
        join: What to join that files keep apart, of :data:`~esp_medsam.dicom.joining.JOINS`.

    Returns:
        Volumes, refusals and other files. A file that cannot be read is refused together with the
        stack that it belongs to.

    Raises:
        InputNotFoundError: If there is nothing at ``path``.
        ReadError: If the folder cannot be listed.
        OptionError: If ``join`` asks for something else.
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
    """Yield what each folder holds, a stack that is spread over several of them as one.

    Some media and exports put so many files into a folder, whatever their series. Such a stack is
    yielded with the folder that its own lie in. Where they share instances, as copies do, each is
    taken alone, and one that holds a part is told so.

    Args:
        folders: Of each the files are taken, but not those in folders below.
        is_chosen: Whether a file that cannot be read counts: what the user left out is not missed.
        join: What to join that files keep apart, of :data:`~esp_medsam.dicom.joining.JOINS`.

    Raises:
        InputNotFoundError: If one of them is gone.
        ReadError: If one cannot be listed.
        OptionError: If ``join`` asks for something else.
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
            notes = {}
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
    """Return what is to be known of a part of a series whose images lie elsewhere as copies."""
    return (
        f"It holds {own} of {every} images of its series, which lie, some as copies, in {folders} "
        "folders."
    )


@dataclass
class _Read:
    """The headers of files, what could not be read, and what is no DICOM image."""

    headers: list[Header] = field(default_factory=list)
    refused: list[tuple[str, EspMedSamError]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    strays: list[Stray] = field(default_factory=list)
    notes: dict[SeriesKey, str] = field(default_factory=dict)
    """What is to be known of a series, by study and series."""


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
    """Join lone slices where the user says so; elsewhere note which look like neighbors."""
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
    """Return the volumes that headers make up."""
    volumes: list[DicomVolume] = []
    refused = list(read.refused)
    for series in _by_series(read.headers):
        for name, result in _series(series, joins):
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
    """Return a file alone, or the files of a folder but not those in folders below, sorted.

    Raises:
        InputNotFoundError: If there is nothing.
        ReadError: If the folder cannot be listed.
    """
    if not path.exists():
        msg = f"{path} must be a file or a folder; there is none."
        raise InputNotFoundError(msg)
    if not path.is_dir():
        return [path]
    try:
        return sorted(file for file in path.iterdir() if not file.is_dir())
    except OSError as error:
        msg = f"{path} must be a folder that can be listed; got: {error.strerror}."
        raise ReadError(msg) from error


def _by_series(headers: Sequence[Header]) -> list[list[Header]]:
    groups: defaultdict[SeriesKey, list[Header]] = defaultdict(list)
    for header in headers:
        groups[series_of(header)].append(header)
    return [groups[key] for key in sorted(groups)]


def _series(
    headers: Sequence[Header], joins: frozenset[str]
) -> Iterator[tuple[str, DicomVolume | EspMedSamError]]:
    """Yield each volume of a series, or why it is refused, with its name."""
    problems = [header for header in headers if header.problem is not None]
    stack_problems = [header for header in problems if header.positioned or not header.series_uid]
    counts = Counter(header.sop_instance_uid for header in headers)
    named: set[str] = set()
    stacks: list[Header] = []
    for header in headers:
        if header.positioned or header in stack_problems:
            stacks.append(header)
            continue
        name = header.sop_instance_uid or Path(header.path).stem
        if header.problem is not None:
            yield name, header.problem
        elif counts[header.sop_instance_uid] > 1:
            if name not in named:
                yield name, _copies(headers, header.sop_instance_uid)
            named.add(name)
        else:
            yield name, _volume(name, [header], Part((), header.slices), (), joins)
    if stack_problems:
        yield _refusal(stack_problems)
        return
    copied = next((h.sop_instance_uid for h in stacks if counts[h.sop_instance_uid] > 1), None)
    if copied:
        yield stacks[0].series_uid or "", _copies(stacks, copied)
        return
    for split, batch in _batches(stacks):
        yield from _stacks(batch, split, joins)


def _refusal(problems: Sequence[Header]) -> tuple[str, EspMedSamError]:
    """Return the name and the reason of a stack that is refused for files of it."""
    first = problems[0]
    error = first.problem or FormatError()
    if len(problems) > 1:
        more = len(problems) - 1
        error = type(error)(f"{error} {more} more {'files' if more > 1 else 'file'} likewise.")
    return first.series_uid or Path(first.path).stem, error


def _copies(headers: Sequence[Header], sop_instance_uid: str | None) -> EspMedSamError:
    """Return why files of one instance are refused."""
    first, second = [h.path for h in headers if h.sop_instance_uid == sop_instance_uid][:2]
    msg = (
        f"SOPInstanceUID of files must differ; {first} and {second} both have "
        f"{sop_instance_uid}. Take one of them out."
    )
    return FormatError(msg)


def _batches(headers: Sequence[Header]) -> list[tuple[Split, list[Header]]]:
    """Keep apart what one series should not mix: SOP classes, and multi-frame instances."""
    groups: defaultdict[tuple[str, str], list[Header]] = defaultdict(list)
    for header in _with_slices_pooled(headers):
        groups[header.sop_class_uid, header.batch or ""].append(header)
    classes = len({sop_class for sop_class, _ in groups})
    instances = Counter(sop_class for sop_class, _ in groups)
    return [
        (
            ((("SOPClassUID", sop_class),) if classes > 1 else ())
            + ((("SOPInstanceUID", batch),) if batch and instances[sop_class] > 1 else ()),
            groups[sop_class, batch],
        )
        for sop_class, batch in sorted(groups)
    ]


def _with_slices_pooled(headers: Sequence[Header]) -> list[Header]:
    """Return headers of which multi-frame files of one place are in no batch of their own.

    Some writers store enhanced images a slice a file. They are left apart where together they
    would lie at one place, and nothing told them apart.
    """
    batches: defaultdict[tuple[str, str], list[Header]] = defaultdict(list)
    for header in headers:
        if header.batch:
            batches[header.sop_class_uid, header.batch].append(header)
    flat: defaultdict[str, list[Header]] = defaultdict(list)
    for (sop_class, _), batch in batches.items():
        if count_places([part for header in batch for part in header.slices]) == 1:
            flat[sop_class] += batch
    pooled = {
        header.path
        for group in flat.values()
        if len(group) > 1 and _lie_apart([part for header in group for part in header.slices])
        for header in group
    }
    return [replace(h, batch=None) if h.path in pooled else h for h in headers]


def _lie_apart(slices: Sequence[DicomSlice]) -> bool:
    """Whether the volumes among slices hold one slice at each place."""
    return all(count_places(part) == len(part) for _, part in split_series(slices))


def _stacks(
    headers: Sequence[Header], split: Split, joins: frozenset[str]
) -> Iterator[tuple[str, DicomVolume | EspMedSamError]]:
    """Yield the volumes that the slices of a series make up, or why they are refused."""
    slices = [part for header in headers for part in header.slices]
    try:
        for part in slices:
            check_usable(part)
    except EspMedSamError as error:
        yield headers[0].series_uid or "", error
        return
    series_uid = headers[0].series_uid or ""
    if any(part.source.series_uid for part in slices):
        split = (("SeriesInstanceUID", "joined"), *split)
    parts = parts_of(slices, interleaved=INTERLEAVED in joins)
    told_splits = told_values([(part.split, part.slices) for part in parts])
    for part, told in zip(parts, told_splits, strict=True):
        name, former = (name_of(series_uid, split + values) for values in (told, part.split))
        paths = {piece.source.path for piece in part.slices}
        members = [header for header in headers if header.path in paths]
        try:
            volume = _volume(name, members, part, split + told, joins)
            yield name, replace(volume, former_name=former if former != name else "")
        except EspMedSamError as error:
            yield name, error


def _volume(
    name: str, headers: Sequence[Header], part: Part, split: Split, joins: frozenset[str]
) -> DicomVolume:
    """Return the volume of these slices.

    Raises:
        GeometryError: If they do not make up one.
    """
    first, slices = headers[0], part.slices
    joined = _joined(headers, part, joins)
    warnings = tuple(_JOINED[join].format(count=len(slices)) for join in joined)
    if part.between and INTERLEAVED not in joined:
        warnings = (*warnings, _BETWEEN.format(attribute=part.between))
    lost = slices[0].position is None and slices[0].orientation is None
    if first.positioned and not (len(slices) == 1 and lost):
        ordered, geometry = stack_geometry(slices)
    else:
        ordered, geometry = tuple(slices), picture_geometry(slices)
        if first.positioned:
            if slices[0].pixel_spacing is None:
                msg = f"{first.path} must state PixelSpacing (0028,0030); it is missing or empty."
                raise GeometryError(msg)
            warnings = ("It states no position, so it was read as a picture.",)
        elif len({header.sop_class_uid for header in headers} & _TILED) and len(slices) > 1:
            warnings = ("Its frames are tiles of a slide; each was read as a picture of its own.",)
    return DicomVolume(
        name=name,
        slices=ordered,
        geometry=geometry,
        sop_class_uid=first.sop_class_uid,
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        frame_of_reference_uid=first.frame_of_reference_uid,
        dicom_modality=first.dicom_modality,
        split=split,
        warnings=geometry.warnings + warnings,
        joined=joined,
    )


def _joined(headers: Sequence[Header], part: Part, joins: frozenset[str]) -> tuple[str, ...]:
    """Return what the user joined of these slices.

    Raises:
        GeometryError: If they state several frames of reference, and the user joined none.
    """
    joined = []
    if len({piece.source.series_uid for piece in part.slices}) > 1:
        joined.append(SERIES)
    first = headers[0]
    others = [h for h in headers if h.frame_of_reference_uid != first.frame_of_reference_uid]
    if first.positioned and others:
        if FRAME_OF_REFERENCE not in joins:
            msg = (
                "Slices of a stack must have one FrameOfReferenceUID; "
                f"{first.path} and {others[0].path} have two, so their positions say nothing. "
                f"Pass --join {FRAME_OF_REFERENCE} if they were taken in one all the same."
            )
            raise GeometryError(msg)
        joined.append(FRAME_OF_REFERENCE)
    if part.between and INTERLEAVED in joins:
        joined.append(INTERLEAVED)
    return tuple(joined)


_JOINED = {
    SERIES: "Its {count} slices state a series each; they were joined, as --join series says.",
    FRAME_OF_REFERENCE: (
        "Its slices state several Frames of Reference; their positions were taken to count from "
        "one origin, as --join frame_of_reference says."
    ),
    INTERLEAVED: (
        "Its slices state what tells volumes apart that lie between one another; they were joined, "
        "as --join interleaved says."
    ),
}
"""What is to be known of what the user joined."""

_BETWEEN = (
    "Its slices lie between those of other volumes of its series, told apart by {attribute}. Pass "
    "--join interleaved if they are one volume."
)

_TILED = {"1.2.840.10008.5.1.4.1.1.77.1.6"}
"""Whole slide microscopy: frames are tiles, not times."""
