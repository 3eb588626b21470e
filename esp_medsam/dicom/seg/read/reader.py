"""Read segmentation objects of any origin, and check their claims first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    RLELossless,
    SegmentationStorage,
)

from esp_medsam.dicom.codecs import name_of
from esp_medsam.dicom.elements import Elements, is_code, length_of, tags_of
from esp_medsam.dicom.frames import SLICE_ATTRIBUTES
from esp_medsam.dicom.header import sop_class_of
from esp_medsam.dicom.pixel_file import PIXEL_ATTRIBUTES, PixelFile, explain_damage
from esp_medsam.dicom.seg import LABELMAP_STORAGE
from esp_medsam.dicom.seg.read.description import SEGMENT_ATTRIBUTES, read_segments
from esp_medsam.dicom.seg.read.masks import DicomSegmentation
from esp_medsam.dicom.seg.read.planes import (
    FRAME_ATTRIBUTES,
    SegFrame,
    SegPlanes,
    place_frames,
    read_frames,
)
from esp_medsam.errors import CorruptFileError, FormatError
from esp_medsam.grid import Grid
from esp_medsam.image import SourceInstance
from esp_medsam.quiet import quietly


_CLASSES = (str(SegmentationStorage), str(LABELMAP_STORAGE))

_ATTRIBUTES = PIXEL_ATTRIBUTES | SLICE_ATTRIBUTES | SEGMENT_ATTRIBUTES | FRAME_ATTRIBUTES | tags_of(
    "SOPClassUID", "SOPInstanceUID", "SegmentationType", "MaximumFractionalValue",
    "SegmentationFractionalType", "StudyInstanceUID", "FrameOfReferenceUID",
    "TotalPixelMatrixRows", "TotalPixelMatrixColumns", "SpacingBetweenSlices",
    "ReferencedSeriesSequence", "SeriesInstanceUID", "ReferencedInstanceSequence",
    "ReferencedSOPInstanceUID",
)  # fmt: skip
"""Attributes of an object that are read."""

_KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")

_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)
"""Transfer syntaxes that may change a value, and so a segment; the standard requires others."""


def is_segmentation(path: str | Path) -> bool:
    """Whether a DICOM file states that it is a segmentation object; reads only its beginning.

    Raises:
        EspMedSamError: If the beginning cannot be read.
    """
    return sop_class_of(path) in _CLASSES


def read_segmentation(path: str | Path) -> DicomSegmentation:
    """Read a DICOM Segmentation of any origin: BINARY, FRACTIONAL or LABELMAP.

    Frames may be in any order and overlap, and empty frames may be left out. Pixels are decoded
    when masks are requested.

    Args:
        path: The file.

    Raises:
        InputNotFoundError: If there is no such file.
        FormatError: If it is not a segmentation, or its transfer syntax, which is named, is not
            supported.
        CorruptFileError: If it is damaged or contradicts itself.
        GeometryError: If its frames do not form one stack.
        TooLargeError: If it does not fit in memory.
        ReadError: If it cannot be read.
    """
    source = os.fspath(path)
    with quietly(), explain_damage(source):
        file = PixelFile(source, _ATTRIBUTES)
        return _read(file)


def _read(file: PixelFile) -> DicomSegmentation:
    path, elements = file.path, file.elements
    sop_class, uid = elements.uid("SOPClassUID") or "", elements.uid("SOPInstanceUID") or ""
    if sop_class not in _CLASSES:
        name = name_of(UID(sop_class)) if sop_class else "nothing"
        msg = f"{path} must be a DICOM Segmentation; it is {name}."
        raise FormatError(msg)
    kind = elements.text("SegmentationType")
    if not kind:
        error = elements.missing("SegmentationType")
        raise error
    if kind not in _KINDS:
        rule = f"be one of {', '.join(_KINDS)}"
        error = elements.error("SegmentationType", rule, length_of(kind))
        raise error
    bits = _check_pixels(file, kind)
    fraction = elements.integer("MaximumFractionalValue", least=1)
    if kind == "FRACTIONAL" and fraction is None:
        error = elements.missing("MaximumFractionalValue")
        raise error
    if kind == "FRACTIONAL" and fraction is not None and fraction >= 2**bits:
        rule = f"be from 1 to {2**bits - 1}"
        error = elements.error("MaximumFractionalValue", rule, str(fraction))
        raise error
    fractional = elements.text("SegmentationFractionalType")
    spacing = _spacing(elements)
    segments = read_segments(elements)
    numbers = [segment.number for segment in segments]
    if not numbers and kind != "LABELMAP":
        msg = f"Segments of {path} must be numbered from 1 (0062,0004); the only number is 0."
        raise CorruptFileError(msg)
    where = SourceInstance(path=path, sop_class_uid=sop_class, sop_instance_uid=uid)
    frames = read_frames(elements, where, file.count, [] if kind == "LABELMAP" else numbers)
    series, instances = _sources(elements)
    is_tiled = elements.has("TotalPixelMatrixRows")
    return DicomSegmentation(
        path=path,
        kind=kind.lower(),
        segments=segments,
        planes=_slide_planes(elements, frames) if is_tiled else place_frames(frames, (spacing,)),
        frames=frames,
        sop_instance_uid=uid,
        study_uid=elements.uid_or_none("StudyInstanceUID") or "",
        frame_of_reference_uid=elements.uid_or_none("FrameOfReferenceUID") or "",
        source_series=series,
        source_instances=instances | {f.source[0] for f in frames if f.source is not None},
        fractional_type=fractional if is_code(fractional) else "",
        maximum=(fraction or 1) if kind == "FRACTIONAL" else 1,
        file=file,
        spacing=spacing,
        is_tiled=is_tiled,
    )


def _check_pixels(file: PixelFile, kind: str) -> int:
    """Return the bits per pixel after checking that the pixels can be those of segments.

    Raises:
        EspMedSamError: If they cannot be.
    """
    elements = file.elements
    path, syntax = file.path, file.syntax
    bits = elements.integer("BitsAllocated") or 0
    if bits not in {"BINARY": (1, 8), "FRACTIONAL": (8,), "LABELMAP": (8, 16)}[kind]:
        error = elements.error("BitsAllocated", f"be what {kind} can have", str(bits))
        raise error
    samples, signed = elements.integer("SamplesPerPixel"), elements.integer("PixelRepresentation")
    if samples != 1 or signed:
        msg = (
            f"{path} must hold one unsigned whole number per pixel; its SamplesPerPixel is "
            f"{samples}, its PixelRepresentation {signed}."
        )
        raise FormatError(msg)
    if syntax in _LOSSY:
        msg = f"{path} must be compressed without loss; {name_of(syntax)} may lose values."
        raise FormatError(msg)
    if syntax == RLELossless and bits == 1:
        msg = (
            f"{path} must be in a transfer syntax that is supported for 1-bit pixels; got "
            f"{name_of(syntax)}. Have it written as Explicit VR Little Endian."
        )
        raise FormatError(msg)
    return bits


def _spacing(elements: Elements) -> float | None:
    """Return the plane spacing that an object states for all frames; some state it negative."""
    shared = elements.item("SharedFunctionalGroupsSequence")
    measures = shared.item("PixelMeasuresSequence") if shared else None
    stated = measures.number("SpacingBetweenSlices") if measures else None
    return abs(stated) if stated else None


def _sources(elements: Elements) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the series and the instances that an object states it was made from."""
    series, instances = [], set()
    for item in elements.items("ReferencedSeriesSequence"):
        series.append(item.uid_or_none("SeriesInstanceUID"))
        for instance in item.items("ReferencedInstanceSequence"):
            instances.add(instance.uid_or_none("ReferencedSOPInstanceUID"))
    return tuple(filter(None, series)), frozenset(filter(None, instances))


def _slide_planes(elements: Elements, frames: Sequence[SegFrame]) -> SegPlanes:
    """Return the single plane of a slide, on which all tiles lie."""
    keys = ("TotalPixelMatrixRows", "TotalPixelMatrixColumns")
    rows, columns = (elements.integer(key, least=1) for key in keys)
    if rows is None or columns is None:
        raise elements.missing(keys[0] if rows is None else keys[1])
    return SegPlanes(
        grid=Grid(shape=(rows, columns)),
        places=(0,) * len(frames),
        problem="The object is of a slide, whose tiles lie on glass and not in a patient.",
    )
