"""Find the planes that the frames of a segmentation object lie in, and the grid of an even stack.

Most objects leave out frames without foreground, so planes may be missing: there is a grid only if
the distances between the planes present are multiples of one spacing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from esp_medsam.dicom.elements import Elements, tags_of
from esp_medsam.dicom.frames import FRAME_GROUPS, SHARED_GROUPS, is_stack, slices_of
from esp_medsam.dicom.geometry import (
    UNEVEN,
    check_alike,
    check_stated,
    check_usable,
    closest,
    depths,
    stack_grid,
)
from esp_medsam.dicom.rounding import last_digits
from esp_medsam.dicom.volume import DicomSlice, Position
from esp_medsam.errors import CorruptFileError, GeometryError
from esp_medsam.grid import Array, Grid
from esp_medsam.image import SourceInstance


FRAME_ATTRIBUTES = tags_of(
    "SegmentIdentificationSequence", "ReferencedSegmentNumber", "DerivationImageSequence",
    "SourceImageSequence", "ReferencedSOPInstanceUID", "ReferencedFrameNumber",
)  # fmt: skip
"""Attributes of a frame that are read in addition to its geometry."""

_INDICES = "DimensionIndexSequence"

MOST_PLANES = 2**15 - 1
"""Most planes of a stack, including missing ones: the limit of a NIfTI axis."""


@dataclass(frozen=True, kw_only=True)
class SegFrame:
    """One frame of a segmentation object.

    Attributes:
        where: Its geometry, and its number in the file, from 1.
        segment: Number of its segment; None if it holds all, as in a labelmap.
        source: SOP Instance UID and frame of the image that it states it belongs to; None if not
            stated.
        dimensions: Its Dimension Index Values except that of its segment.
    """

    where: DicomSlice
    segment: int | None
    source: tuple[str, int | None] | None = None
    dimensions: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class SegPlanes:
    """The planes that frames lie in.

    Attributes:
        grid: Their grid, including missing planes; its ``affine`` is None if they are not evenly
            stacked.
        places: Plane of each frame, in the order of the frames.
        problem: Why they have no even grid; empty if they have one.
        warnings: Warnings for the user about an even grid, one sentence each.
    """

    grid: Grid
    places: tuple[int, ...]
    problem: str = ""
    warnings: tuple[str, ...] = ()


def read_frames(
    elements: Elements, source: SourceInstance, count: int, segments: Sequence[int]
) -> tuple[SegFrame, ...]:
    """Return the frames of an object, in file order.

    Args:
        elements: Header of the object.
        source: File and instance of the object.
        count: Number of frames in the object.
        segments: Numbers of its segments; empty if each frame holds all segments.

    Raises:
        EspMedSamError: If the description of a frame is malformed, or its segment is unknown.
    """
    positioned = is_stack(elements, source.sop_class_uid)
    slices = slices_of(elements, source, count, positioned=positioned)
    shared, own = elements.item(SHARED_GROUPS), elements.items(FRAME_GROUPS)
    pointers = [item.tag("DimensionIndexPointer") for item in elements.items(_INDICES)]
    frames = []
    for k, where in enumerate(slices):
        groups = [group for group in (own[k] if own else None, shared) if group is not None]
        frames.append(
            SegFrame(
                where=where,
                segment=_segment_of(groups, where, segments) if segments else None,
                source=_source_of(groups),
                dimensions=tuple(_dimensions_of(groups, pointers)),
            )
        )
    return tuple(frames)


def place_frames(frames: Sequence[SegFrame], spacing: Sequence[float | None] = ()) -> SegPlanes:
    """Return the planes of frames, and their grid if there is one.

    Args:
        frames: Frames of one object.
        spacing: Distances between neighboring planes, in mm, to try in order before the least
            distance found; None is skipped.

    Raises:
        GeometryError: If frames with positions do not form one stack, or two frames of a segment
            lie in one place.
    """
    if frames[0].where.position is None:
        return _without_positions(frames)
    slices = [frame.where for frame in frames]
    for part in slices:
        check_stated(part)
        check_usable(part)
    check_alike(slices)
    places, planes = _planes_of(slices)
    _check_once(frames, places)
    near = closest(slices)
    steps = [step for step in spacing if step is not None and np.isfinite(step) and step > near]
    digits = last_digits(np.array([plane.position for plane in planes]))
    filled, at = _filled(planes, steps, float(np.linalg.norm(digits)))
    _, grid, warnings = stack_grid(filled, digits)
    places = [at[place] for place in places]
    if len(filled) == 1 and not steps and planes[0].thickness is None:
        problem = "The object has one plane, and states neither spacing nor thickness."
        return SegPlanes(grid=replace(grid, affine=None), places=tuple(places), problem=problem)
    if grid.affine is None:
        return SegPlanes(grid=grid, places=tuple(places), problem=warnings[-1])
    told = _warnings(grid, warnings, steps, planes)
    return SegPlanes(grid=grid, places=tuple(places), warnings=told)


def _without_positions(frames: Sequence[SegFrame]) -> SegPlanes:
    """Return the planes of frames without positions: one per source, dimension index or frame."""
    for keys in _keys(frames):
        if len({*zip(keys, (frame.segment for frame in frames), strict=True)}) == len(frames):
            break
    number = {key: k for k, key in enumerate(sorted(set(keys)))}
    first = frames[0].where
    picture = (first.rows, first.columns)
    return SegPlanes(
        grid=Grid(
            shape=picture if len(number) == 1 else (*picture, len(number)),
            pixel_spacing=first.pixel_spacing,
        ),
        places=tuple(number[key] for key in keys),
        problem="The frames state no position in the patient.",
    )


def _keys(frames: Sequence[SegFrame]) -> Iterator[list[tuple[int, ...]]]:
    """Yield lists of one key per frame that may distinguish planes; the last always does."""
    if all(frame.source is not None for frame in frames):
        sources = [cast("tuple[str, int | None]", frame.source) for frame in frames]
        order = {uid: k for k, uid in enumerate(dict.fromkeys(uid for uid, _ in sources))}
        yield [(order[uid], frame or 0) for uid, frame in sources]
    if all(frame.dimensions for frame in frames):
        yield [frame.dimensions for frame in frames]
    yield [(k,) for k in range(len(frames))]


def _planes_of(slices: Sequence[DicomSlice]) -> tuple[list[int], list[DicomSlice]]:
    """Return the plane of each slice, and the first slice of each plane, along the normal.

    Raises:
        GeometryError: If slices of one plane lie side by side.
    """
    along = depths(slices)
    near = closest(slices)
    order = np.argsort(along, kind="stable").tolist()
    places = [0] * len(slices)
    planes: list[DicomSlice] = []
    start = -np.inf
    for k in order:
        if along[k] - start >= near:
            planes.append(slices[k])
            start = along[k]
        places[k] = len(planes) - 1
        apart = np.array(slices[k].position) - np.array(planes[-1].position)
        if np.abs(apart).max() > near:
            msg = (
                f"Frames in one plane must lie at the same place; {slices[k].where} and "
                f"{planes[-1].where} lie side by side."
            )
            raise GeometryError(msg)
    return places, planes


def _check_once(frames: Sequence[SegFrame], places: Sequence[int]) -> None:
    """Refuse two frames of one segment in one plane, such as frames of two time points."""
    seen: dict[tuple[int, int | None], SegFrame] = {}
    for frame, place in zip(frames, places, strict=True):
        other = seen.setdefault((place, frame.segment), frame)
        if other is not frame:
            msg = (
                f"Frames of a segment must lie apart; {frame.where.where} and "
                f"{other.where.where} lie at the same place. Objects with several time points "
                "are not read."
            )
            raise GeometryError(msg)


def _filled(
    planes: Sequence[DicomSlice], steps: Sequence[float], rounding: float
) -> tuple[list[DicomSlice], list[int]]:
    """Return the planes with missing ones filled in, and the indices of the given ones.

    Planes are filled in only if all distances are multiples of one step.

    Args:
        planes: Planes in order along their normal.
        steps: Steps to try before the least distance.
        rounding: How far a plane may lie off its stated position, mm.
    """
    if len(planes) == 1:
        depth = steps[0] if steps else planes[0].thickness
        return [replace(planes[0], thickness=depth)], [0]
    gaps = np.diff(depths(planes))
    for step in (*steps, float(gaps.min())):
        counts = np.maximum(np.rint(gaps / step), 1.0)
        even = gaps.sum() / counts.sum()
        is_even = np.abs(gaps - counts * even).max() <= UNEVEN * even + rounding
        is_step = abs(even - step) <= UNEVEN * step + rounding / counts.sum()
        if is_even and is_step and counts.sum() < MOST_PLANES:
            break
    else:
        return list(planes), list(range(len(planes)))
    filled = [planes[0]]
    for plane, count in zip(planes[1:], counts.astype(int).tolist(), strict=True):
        start = np.array(filled[-1].position)
        leap = (np.array(plane.position) - start) / count
        for k in range(1, count):
            position = cast(Position, tuple((start + k * leap).tolist()))
            filled.append(replace(plane, position=position))
        filled.append(plane)
    return filled, [0, *counts.astype(int).cumsum().tolist()]


def _warnings(
    grid: Grid, told: tuple[str, ...], steps: Sequence[float], planes: Sequence[DicomSlice]
) -> tuple[str, ...]:
    """Return the warnings of a grid, and one if the distance between planes was not stated."""
    step = float(np.linalg.norm(cast(Array, grid.affine)[:3, 2]))
    if len(planes) == 1:
        return told if not steps else ()
    stated = steps or [planes[0].thickness or 0.0]
    if any(abs(length - step) <= UNEVEN * step + grid.rounding for length in stated):
        return told
    if steps:
        start = f"Plane positions contradict the stated spacing of {steps[0]:g} mm"
    else:
        start = "The object states no spacing between planes"
    said = f"{start}; they were taken to be {step:.6g} mm apart, their least distance."
    return (*told, said)


def _segment_of(groups: Sequence[Elements], where: DicomSlice, segments: Sequence[int]) -> int:
    """Return the number of a frame's segment; if not stated, that of the only segment."""
    items = [group.item("SegmentIdentificationSequence") for group in groups]
    numbers = [item.integer("ReferencedSegmentNumber") for item in items if item is not None]
    number = numbers[0] if numbers else segments[0] if len(segments) == 1 else None
    if number is None or number not in segments:
        got = "none" if number is None else str(number)
        msg = f"{where.where} must be of a segment that the object describes; got {got}."
        raise CorruptFileError(msg)
    return number


def _source_of(groups: Sequence[Elements]) -> tuple[str, int | None] | None:
    """Return the image that a frame was derived from; None if it states none or several."""
    for group in groups:
        derivation = group.item("DerivationImageSequence")
        sources = derivation.items("SourceImageSequence") if derivation else ()
        uid = sources[0].uid("ReferencedSOPInstanceUID") if len(sources) == 1 else None
        if uid is not None:
            numbers = sources[0].texts("ReferencedFrameNumber")
            is_one = len(numbers) == 1 and numbers[0].isascii() and numbers[0].isdigit()
            return uid, int(numbers[0][:9]) if is_one else None
    return None


def _dimensions_of(groups: Sequence[Elements], pointers: Sequence[str]) -> Iterator[int]:
    """Yield the Dimension Index Values of a frame except that of its segment."""
    content = groups[0].item("FrameContentSequence") if groups else None
    values = content.integers("DimensionIndexValues") if content is not None else ()
    for pointer, value in zip(pointers, values, strict=False):
        if pointer != "ReferencedSegmentNumber":
            yield value
