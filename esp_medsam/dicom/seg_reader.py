"""Segmentation objects that others wrote, and our own: segments, grid, and masks one by one.

pydicom decodes frames, highdicom lays tiles of slides together. highdicom's own reading of a volume
is not used: it refuses big-endian files and frames without a frame of reference, and builds a
database before a claim of the header is checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
from pydicom import Dataset
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

from esp_medsam.dicom.claims import PIXEL_TAGS
from esp_medsam.dicom.codecs import name_of
from esp_medsam.dicom.elements import Elements
from esp_medsam.dicom.header import sop_class_of
from esp_medsam.dicom.pixel_file import PixelFile, explained, quietly
from esp_medsam.dicom.seg_description import SegSegment, read_segments
from esp_medsam.dicom.seg_planes import SegFrame, SegPlanes, place_frames, read_frames
from esp_medsam.dicom.volume import StackGeometry
from esp_medsam.errors import CorruptFileError, FormatError, OptionError
from esp_medsam.image import SourceInstance
from esp_medsam.memory import check_fits


_CLASSES = (str(SegmentationStorage), "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage, and Label Map Segmentation Storage."""

_KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")

_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)
"""Transfer syntaxes that may change a value, and with it a segment; the standard wants others."""

_DECODING = 6
"""Times the size of a frame that decoding it takes for a moment: codecs copy."""

_LAYING = 6
"""Bytes a pixel that laying tiles together takes, the result included."""

Mask = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class DicomSegmentation:
    """A segmentation object, whose masks are decoded when they are asked for.

    Attributes:
        path: File it was read from.
        kind: ``binary``, ``fractional`` or ``labelmap``.
        segments: What it describes, by number.
        planes: The planes that its frames lie in, and their grid.
        frames: Its frames, in the order of the file.
        sop_instance_uid: Of the object.
        study_uid: Of the study it belongs to.
        source_series: Series Instance UIDs that it says it segments.
        source_instances: SOP Instance UIDs that it says it segments.
        fractional_type: ``PROBABILITY`` or ``OCCUPANCY``; empty where it is not fractional.
        maximum: What a mask holds where a segment is sure, or fills the voxel: 1 unless fractional.
        file: Its pixels.
        spacing: Distance of planes in mm that it states; None where it states none.
        is_tiled: Whether its frames are tiles of a slide.
    """

    path: str
    kind: str
    segments: tuple[SegSegment, ...]
    planes: SegPlanes
    frames: tuple[SegFrame, ...]
    sop_instance_uid: str
    study_uid: str
    source_series: tuple[str, ...]
    source_instances: frozenset[str]
    fractional_type: str
    maximum: int
    file: PixelFile
    spacing: float | None
    is_tiled: bool

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of its masks.

        ``(columns, rows, planes)`` of a stack, which includes planes that hold no segment;
        ``(rows, columns)`` of a picture, or of a whole slide; ``(rows, columns, frames)`` of a
        cine.
        """
        return self.planes.spatial_shape

    @property
    def geometry(self) -> StackGeometry:
        """Where its planes lie; ``affine`` is None where they have no even grid."""
        return self.planes.geometry

    @property
    def problem(self) -> str:
        """Why there is no even grid; empty where there is one."""
        return self.planes.problem

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know, a sentence each."""
        return self.planes.geometry.warnings if not self.problem else ()

    def with_spacing(self, spacing: float) -> DicomSegmentation:
        """Return the same with planes laid that far apart, in mm, where their positions allow it.

        Planes that hold no segment are left out of most objects, so only its source tells for
        certain how many lie between two.
        """
        if self.is_tiled:
            return self
        return replace(self, planes=place_frames(self.frames, (spacing, self.spacing)))

    def mask(self, number: int) -> Mask:
        """Return the mask of one segment, ``spatial_shape``.

        Args:
            number: Its number.

        Returns:
            0 and 1; of a fractional object uint8 from 0 to ``maximum``.

        Raises:
            OptionError: If there is no such segment.
            CorruptFileError: If frames are damaged, or hold what they cannot.
            TooLargeError: If the mask does not fit in memory.
        """
        if number not in {segment.number for segment in self.segments}:
            msg = f"segment must be one that {self.path} describes; got {number}."
            raise OptionError(msg)
        if self.is_tiled:
            self._check_slide()
            return self._slide(number)
        if self.kind == "labelmap":
            inside: Mask = self.labelmap() == number
            return inside.view(np.uint8)
        wanted = [k for k, frame in enumerate(self.frames) if frame.segment == number]
        planes = self._empty(np.uint8)
        for place, values in self._decoded(wanted):
            planes[place] = values
        return self._turned(planes)

    def labelmap(self) -> Mask:
        """Return all segments in one array, whose values are their numbers.

        Returns:
            ``spatial_shape``, uint8, or uint16 where a number is above 255.

        Raises:
            OptionError: If segments overlap, or are fractional: no one value can say so.
            CorruptFileError: If frames are damaged, or hold what they cannot.
            TooLargeError: If it does not fit in memory.
        """
        if self.kind == "fractional":
            msg = f"{self.path} must hold whole segments to be one labelmap; it is FRACTIONAL."
            raise OptionError(msg)
        last = max((segment.number for segment in self.segments), default=0)
        dtype = np.uint8 if last < 256 else np.uint16
        if self.is_tiled:
            self._check_slide()
            return self._slide_labels(dtype)
        planes = self._empty(dtype)
        for (place, values), frame in zip(
            self._decoded(range(len(self.frames))), self.frames, strict=True
        ):
            if frame.segment is None:
                planes[place] = values
                continue
            inside = values != 0
            if planes[place][inside].any():
                raise self._overlap(frame.segment)
            planes[place][inside] = frame.segment
        return self._turned(planes)

    def _empty(self, dtype: type[np.unsignedinteger[Any]]) -> Mask:
        """Return empty planes ``(planes, rows, columns)``, where there is memory for them."""
        frame = (self.frames[0].where.rows, self.frames[0].where.columns)
        count = self.spatial_shape[2] if len(self.spatial_shape) == 3 else 1
        size = (count + _DECODING) * frame[0] * frame[1] * np.dtype(dtype).itemsize
        check_fits(Path(self.path), size, f"its {count} x {frame[0]} x {frame[1]} mask")
        return np.zeros((count, *frame), dtype=dtype)

    def _decoded(self, wanted: Sequence[int]) -> Iterator[tuple[int, Mask]]:
        """Yield plane and values of frames, by their places in the file."""
        if not wanted:
            return
        with quietly(), explained(self.path):
            for k, (values, _) in zip(wanted, self.file.frames(wanted), strict=True):
                where = self.frames[k].where
                if values.shape != (where.rows, where.columns):
                    msg = f"{where.where} must be {where.rows} x {where.columns} pixels; it is not."
                    raise CorruptFileError(msg)
                yield self.planes.places[k], self._checked(values, where.where)

    def _checked(self, values: Mask, where: str) -> Mask:
        """Refuse values that no segment has: they were decoded wrong, or stored so."""
        if self.kind == "labelmap":
            wrong = set(np.unique(values).tolist()) - {0, *(s.number for s in self.segments)}
        else:
            wrong = {int(values.max())} if int(values.max()) > self.maximum else set()
        if wrong:
            msg = (
                f"{where} must hold what its {self.kind.upper()} segments can have; "
                f"it holds {min(wrong)}."
            )
            raise CorruptFileError(msg)
        return values

    def _turned(self, planes: Mask) -> Mask:
        """Return planes, rows and columns in the order of ``spatial_shape``."""
        turned: Mask
        if self.geometry.slice_affines is not None:
            turned = planes.transpose(2, 1, 0)
        else:
            turned = planes.transpose(1, 2, 0) if len(self.spatial_shape) == 3 else planes[0]
        return turned

    def _overlap(self, number: int) -> OptionError:
        msg = (
            f"{self.path} must be split: its segment {number} overlaps another, which one labelmap "
            "cannot hold. Pass --split_segments."
        )
        return OptionError(msg)

    def _check_slide(self) -> None:
        """Refuse what has no place in memory, and tiles that hold what no segment has."""
        rows, columns = self.spatial_shape
        check_fits(Path(self.path), rows * columns * _LAYING, f"its {rows} x {columns} slide")
        for _ in self._decoded(range(len(self.frames))):
            pass  # highdicom checks no values

    def _slide(self, number: int) -> Mask:
        """Return a mask on the total pixel matrix, ``(rows, columns)``."""
        with quietly(), explained(self.path):
            matrix: Mask = _tiled(self.file.dataset).get_total_pixel_matrix(
                segment_numbers=[number], rescale_fractional=False, dtype=np.uint8
            )
        return matrix[..., 0]

    def _slide_labels(self, dtype: type[np.unsignedinteger[Any]]) -> Mask:
        """Return all segments on the total pixel matrix."""
        labels: Mask = np.zeros(self.spatial_shape, dtype=dtype)
        for segment in self.segments:
            inside = self._slide(segment.number) != 0
            if labels[inside].any():
                raise self._overlap(segment.number)
            labels[inside] = segment.number
        return labels


def is_segmentation(path: str | Path) -> bool:
    """Whether a DICOM file says that it is a segmentation object; reads its beginning alone.

    Raises:
        EspMedSamError: If that cannot be read.
    """
    return sop_class_of(path) in _CLASSES


def read_segmentation(path: str | Path) -> DicomSegmentation:
    """Read a DICOM Segmentation: BINARY, FRACTIONAL or LABELMAP, whoever wrote it.

    Frames may lie in any order, overlap, and be left out where they are empty. Pixels are decoded
    when masks are asked for.

    Args:
        path: The file.

    Raises:
        InputNotFoundError: If there is no such file.
        FormatError: If it is no segmentation, or in a transfer syntax that is not read, by name.
        CorruptFileError: If it is damaged, or contradicts itself.
        GeometryError: If its frames are of no one stack.
        TooLargeError: If it does not fit in memory.
        ReadError: If it cannot be read.
    """
    source = os.fspath(path)
    with quietly(), explained(source):
        file = PixelFile(source)
        return _read(file)


def _read(file: PixelFile) -> DicomSegmentation:
    path, dataset = file.path, file.dataset
    # First: it reads values as they stand in the file, which pydicom replaces as it converts them.
    elements = Elements(dataset, path)
    sop_class, uid = elements.uid("SOPClassUID") or "", elements.uid("SOPInstanceUID") or ""
    if sop_class not in _CLASSES:
        name = name_of(UID(sop_class)) if sop_class else "nothing"
        msg = f"{path} must be a DICOM Segmentation; it says it is {name}."
        raise FormatError(msg)
    kind = elements.text("SegmentationType")
    if kind not in _KINDS:
        error = elements.error("SegmentationType", f"be one of {', '.join(_KINDS)}", kind)
        raise error
    count = elements.integer("NumberOfFrames", least=1) or 1
    bits = _check_pixels(elements, file, kind, count)
    fraction = elements.integer("MaximumFractionalValue", least=1)
    if kind == "FRACTIONAL" and (fraction is None or fraction >= 2**bits):
        error = elements.missing("MaximumFractionalValue")
        raise error
    spacing = _spacing(elements)
    segments = read_segments(dataset, path)
    numbers = [segment.number for segment in segments]
    where = SourceInstance(path=path, sop_class_uid=sop_class, sop_instance_uid=uid)
    frames = read_frames(elements, where, count, [] if kind == "LABELMAP" else numbers)
    series, instances = _sources(elements)
    is_tiled = "TotalPixelMatrixRows" in dataset
    return DicomSegmentation(
        path=path,
        kind=kind.lower(),
        segments=segments,
        planes=_slide_planes(elements, frames) if is_tiled else place_frames(frames, (spacing,)),
        frames=frames,
        sop_instance_uid=uid,
        study_uid=elements.text("StudyInstanceUID"),
        source_series=series,
        source_instances=instances | {f.source[0] for f in frames if f.source is not None},
        fractional_type=elements.text("SegmentationFractionalType"),
        maximum=(fraction or 1) if kind == "FRACTIONAL" else 1,
        file=file,
        spacing=spacing,
        is_tiled=is_tiled,
    )


def _check_pixels(elements: Elements, file: PixelFile, kind: str, frames: int) -> int:
    """Return the bits of a pixel, once the file is seen to hold the pixels that it claims.

    Raises:
        EspMedSamError: If it does not, or they cannot be segments.
    """
    path, syntax = file.path, file.syntax
    sizes = [elements.integer(key, least=1) for key in ("Rows", "Columns", "BitsAllocated")]
    for key, size in zip(("Rows", "Columns", "BitsAllocated"), sizes, strict=True):
        if size is None:
            raise elements.missing(key)
    rows, columns, bits = (size or 0 for size in sizes)
    if bits not in {"BINARY": (1, 8), "FRACTIONAL": (8,), "LABELMAP": (8, 16)}[kind]:
        error = elements.error("BitsAllocated", f"be what {kind} can have", str(bits))
        raise error
    if elements.integer("SamplesPerPixel") != 1 or elements.integer("PixelRepresentation"):
        msg = f"{path} must hold one whole number from 0 a pixel; its header says another thing."
        raise FormatError(msg)
    if syntax in _LOSSY:
        msg = f"{path} must be compressed without loss; {name_of(syntax)} may lose values."
        raise FormatError(msg)
    if syntax == RLELossless and bits == 1:
        msg = (
            f"{path} must be in a transfer syntax that is read here; pixels of 1 bit in "
            f"{name_of(syntax)} are not. Store it as Explicit VR Little Endian."
        )
        raise FormatError(msg)
    held = len(file.dataset.get_item(PIXEL_TAGS[0]).value or b"")
    # Compressed, each frame is an item of 8 bytes at least.
    needed = frames * 8 if syntax.is_encapsulated else -(-frames * rows * columns * bits // 8)
    if needed > held:
        msg = f"{path} must hold {needed} bytes of pixels; it holds {held}. Copy it again."
        raise CorruptFileError(msg)
    return bits


def _spacing(elements: Elements) -> float | None:
    """Return the distance of planes that an object states for all; some state it as negative."""
    shared = elements.item("SharedFunctionalGroupsSequence")
    measures = shared.item("PixelMeasuresSequence") if shared else None
    stated = measures.number("SpacingBetweenSlices") if measures else None
    return abs(stated) if stated else None


def _sources(elements: Elements) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the series and the instances that an object says it was made of."""
    series, instances = [], set()
    for item in elements.items("ReferencedSeriesSequence"):
        series.append(item.text("SeriesInstanceUID"))
        for instance in item.items("ReferencedInstanceSequence"):
            instances.add(instance.text("ReferencedSOPInstanceUID"))
    return tuple(uid for uid in series if uid), frozenset(instances - {""})


def _slide_planes(elements: Elements, frames: Sequence[SegFrame]) -> SegPlanes:
    """Return the one plane of a slide, on which tiles lie."""
    keys = ("TotalPixelMatrixRows", "TotalPixelMatrixColumns")
    rows, columns = (elements.integer(key, least=1) for key in keys)
    if rows is None or columns is None:
        raise elements.missing(keys[0] if rows is None else keys[1])
    return SegPlanes(
        spatial_shape=(rows, columns),
        places=(0,) * len(frames),
        geometry=StackGeometry(),
        problem="It is of a slide, whose tiles lie on glass and not in a patient.",
    )


def _tiled(dataset: Dataset) -> Any:
    """Return the object as highdicom reads it."""
    kind = highdicom.seg.Segmentation
    if isinstance(dataset, kind):
        return dataset
    return kind.from_dataset(dataset, copy=False)
