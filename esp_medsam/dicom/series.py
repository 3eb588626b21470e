"""Group the files of a series into volumes, by their headers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from esp_medsam.dicom.geometry import check_usable, is_usable, picture_grid, stack_grid
from esp_medsam.dicom.header import Header
from esp_medsam.dicom.joining import FRAME_OF_REFERENCE, INTERLEAVED, SERIES
from esp_medsam.dicom.split import Part, count_places, parts_of, split_series
from esp_medsam.dicom.volume import DicomSlice, DicomVolume
from esp_medsam.dicom.volume_names import Split, distinguishing_values, name_of
from esp_medsam.errors import EspMedSamError, FormatError, GeometryError


def volumes_of(
    headers: Sequence[Header], joins: frozenset[str]
) -> Iterator[tuple[str, DicomVolume | EspMedSamError]]:
    """Yield the name of each volume of a series, with the volume or why it is refused.

    Args:
        headers: Headers of the files of the series.
        joins: What the user joined, from :data:`~esp_medsam.dicom.joining.JOINS`.
    """
    stack_problems = [h for h in headers if h.problem is not None and _may_be_of_stack(h)]
    counts = Counter(header.sop_instance_uid for header in headers)
    named: set[str] = set()
    stacks: list[Header] = []
    for header in headers:
        if header.positioned or (header.problem is not None and _may_be_of_stack(header)):
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


def _may_be_of_stack(header: Header) -> bool:
    return header.positioned or not header.series_uid


def _refusal(problems: Sequence[Header]) -> tuple[str, EspMedSamError]:
    """Return the name of a stack that is refused because of its files, and the reason."""
    first = problems[0]
    error = first.problem or FormatError()
    if len(problems) > 1:
        more = len(problems) - 1
        error = type(error)(
            f"{error} The same holds for {more} more {'files' if more > 1 else 'file'}."
        )
    return first.series_uid or Path(first.path).stem, error


def _copies(headers: Sequence[Header], sop_instance_uid: str | None) -> EspMedSamError:
    """Return the reason for refusing several files of one instance."""
    first, second = [h.path for h in headers if h.sop_instance_uid == sop_instance_uid][:2]
    msg = (
        f"SOPInstanceUID of files must differ; {first} and {second} both have "
        f"{sop_instance_uid}. Take one of them out."
    )
    return FormatError(msg)


def _batches(headers: Sequence[Header]) -> list[tuple[Split, list[Header]]]:
    """Separate what one series should not mix: SOP classes and multi-frame instances."""
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
    """Return the headers with multi-frame files of a single place pooled into common batches.

    Some writers store enhanced images as one slice per file. Such files stay apart if, pooled,
    several would lie at one place and nothing would distinguish them.
    """
    batches: defaultdict[tuple[str, str], list[Header]] = defaultdict(list)
    for header in headers:
        if header.batch:
            batches[header.sop_class_uid, header.batch].append(header)
    flat: defaultdict[tuple[object, ...], list[Header]] = defaultdict(list)
    for (sop_class, _), batch in batches.items():
        slices = [piece for header in batch for piece in header.slices]
        if all(map(is_usable, slices)) and count_places(slices) == 1:
            matrix = slices[0].rows, slices[0].columns
            flat[sop_class, matrix, batch[0].frame_of_reference_uid] += batch
    groups = [
        group
        for group in flat.values()
        if len(group) > 1 and _lie_apart([part for header in group for part in header.slices])
    ]
    classes = Counter(group[0].sop_class_uid for group in groups)
    pooled: dict[str, str | None] = {}
    for group in groups:
        least = min(header.batch or "" for header in group)
        kept = least if classes[group[0].sop_class_uid] > 1 else None
        pooled |= dict.fromkeys((header.path for header in group), kept)
    return [replace(h, batch=pooled[h.path]) if h.path in pooled else h for h in headers]


def _lie_apart(slices: Sequence[DicomSlice]) -> bool:
    """Whether each volume among the slices holds one slice at each place."""
    return all(count_places(part) == len(part) for _, part in split_series(slices))


def _stacks(
    headers: Sequence[Header], split: Split, joins: frozenset[str]
) -> Iterator[tuple[str, DicomVolume | EspMedSamError]]:
    """Yield the volumes that the slices of a series make up, or why they are refused."""
    slices = [piece for header in headers for piece in header.slices]
    try:
        for piece in slices:
            check_usable(piece)
    except EspMedSamError as error:
        yield headers[0].series_uid or "", error
        return
    series_uid = headers[0].series_uid or ""
    if any(piece.source.series_uid for piece in slices):
        split = (("SeriesInstanceUID", "joined"), *split)
    parts = parts_of(slices, interleaved=INTERLEAVED in joins)
    told_splits = distinguishing_values([(part.split, part.slices) for part in parts])
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
        GeometryError: If the slices do not make up a volume.
    """
    first, slices = headers[0], part.slices
    joined = _joining_notes(headers, part, joins)
    warnings = tuple(_JOINED[join].format(count=len(slices)) for join in joined)
    if part.between and INTERLEAVED not in joined:
        warnings = (*warnings, _BETWEEN.format(attribute=part.between))
    lost = slices[0].position is None and slices[0].orientation is None
    if first.positioned and not (len(slices) == 1 and lost):
        ordered, grid, of_grid = stack_grid(slices)
        warnings = of_grid + warnings
    else:
        ordered, grid = tuple(slices), picture_grid(slices)
        if first.positioned:
            if slices[0].pixel_spacing is None:
                msg = f"{first.path} must state PixelSpacing (0028,0030); it is missing or empty."
                raise GeometryError(msg)
            warnings = ("The image states no position, so it was read as a picture.",)
        elif len({header.sop_class_uid for header in headers} & _TILED) and len(slices) > 1:
            warnings = ("The frames are tiles of a slide; each was read as a picture of its own.",)
    return DicomVolume(
        name=name,
        slices=ordered,
        grid=grid,
        states=tuple(sorted((header.path, header.state) for header in headers)),
        sop_class_uid=first.sop_class_uid,
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        frame_of_reference_uid=next(
            filter(None, (h.frame_of_reference_uid for h in headers)), None
        ),
        dicom_modality=first.dicom_modality,
        split=split,
        warnings=warnings,
        joined=joined,
    )


def _joining_notes(headers: Sequence[Header], part: Part, joins: frozenset[str]) -> tuple[str, ...]:
    """Return which joins of the user these slices needed.

    Raises:
        GeometryError: If they state several frames of reference that the user did not join.
    """
    joined = []
    if len({piece.source.series_uid for piece in part.slices}) > 1:
        joined.append(SERIES)
    first = headers[0]
    others = [h for h in headers if h.frame_of_reference_uid != first.frame_of_reference_uid]
    if first.positioned and others:
        if FRAME_OF_REFERENCE not in joins:
            msg = (
                f"Slices of a stack must have one FrameOfReferenceUID; {first.path} and "
                f"{others[0].path} have different ones, so their positions cannot be compared. "
                f"Pass `join` {FRAME_OF_REFERENCE} if they share one nevertheless."
            )
            raise GeometryError(msg)
        joined.append(FRAME_OF_REFERENCE)
    if part.between and INTERLEAVED in joins:
        joined.append(INTERLEAVED)
    return tuple(joined)


_JOINED = {
    SERIES: (
        "Each of the {count} slices states a series of its own; they were joined, because "
        "`join` includes series."
    ),
    FRAME_OF_REFERENCE: (
        "The slices state several Frames of Reference; their positions were taken to share "
        "one origin, because `join` includes frame_of_reference."
    ),
    INTERLEAVED: (
        "The headers assign these slices to several interleaved volumes; they were joined, "
        "because `join` includes interleaved."
    ),
}
"""Warnings about what the user joined."""

_BETWEEN = (
    "The slices of this volume lie between those of others of the series, which differ in "
    "{attribute}. Pass `join` interleaved if they are one volume."
)

_TILED = {"1.2.840.10008.5.1.4.1.1.77.1.6"}
"""Whole slide microscopy: frames are tiles, not times."""
