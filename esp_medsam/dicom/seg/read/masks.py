"""Hold one segmentation object: its segments, its grid, and masks decoded on request.

pydicom decodes frames; highdicom assembles the tiles of slides. highdicom's own volume reader is
not used: it refuses big-endian files and frames without a frame of reference, and builds a
database before any claim of the header is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from highdicom.seg import Segmentation

from esp_medsam.dicom.pixel_file import DECODING, PixelFile, explain_damage
from esp_medsam.dicom.seg.read.description import SegSegment
from esp_medsam.dicom.seg.read.planes import SegFrame, SegPlanes, place_frames
from esp_medsam.errors import CorruptFileError, OptionError, listed
from esp_medsam.grid import Grid
from esp_medsam.memory import check_fits
from esp_medsam.quiet import quietly


_LAYING = 6
"""Bytes per pixel needed to assemble tiles, including the result."""

_PADDED = (
    "Each frame begins in a byte of its own, which the standard does not allow; frames were "
    "read so, because the length of Pixel Data fits."
)

_LONGER = (
    "Pixel Data is {} bytes longer than its frames without gaps, and was read as if there "
    "were none; if its writer left gaps, segments lie elsewhere."
)

Mask = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class DicomSegmentation:
    """A segmentation object whose masks are decoded on request.

    Attributes:
        path: File it was read from.
        kind: ``binary``, ``fractional`` or ``labelmap``.
        segments: Its segments, by number.
        planes: The planes that its frames lie in, and their grid.
        frames: Its frames, in the order of the file.
        sop_instance_uid: SOP Instance UID of the object.
        study_uid: Study Instance UID.
        frame_of_reference_uid: Frame of reference of its positions; empty if it states none.
        source_series: UIDs of the series that it states it segments.
        source_instances: UIDs of the instances that it states it segments.
        fractional_type: ``PROBABILITY`` or ``OCCUPANCY``; empty if it is not fractional.
        maximum: Mask value for full certainty or a full voxel; 1 unless fractional.
        file: Its pixels.
        spacing: Distance between planes in mm that it states; None if it states none.
        is_tiled: Whether its frames are tiles of a slide.
    """

    path: str
    kind: str
    segments: tuple[SegSegment, ...]
    planes: SegPlanes
    frames: tuple[SegFrame, ...]
    sop_instance_uid: str
    study_uid: str
    frame_of_reference_uid: str
    source_series: tuple[str, ...]
    source_instances: frozenset[str]
    fractional_type: str
    maximum: int
    file: PixelFile
    spacing: float | None
    is_tiled: bool

    @property
    def is_whole(self) -> bool:
        """Whether each voxel is in a segment or not: all kinds but fractional with maximum > 1."""
        return self.kind != "fractional" or self.maximum == 1

    @property
    def grid(self) -> Grid:
        """The grid of its masks: all planes, including those without a segment, or a whole slide.

        ``affine`` is None if the planes have no even grid.
        """
        return self.planes.grid

    @property
    def problem(self) -> str:
        """Why there is no even grid; empty if there is one."""
        return self.planes.problem

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the user, one sentence each."""
        placed = self.planes.warnings
        bits = self.file.bits
        if bits is not None and bits.is_padded:
            return (*placed, _PADDED)
        return (*placed, _LONGER.format(bits.beyond)) if bits and bits.beyond else placed

    def with_spacing(self, spacing: float) -> DicomSegmentation:
        """Return the same object with planes that far apart, in mm, if it states no spacing.

        Most objects leave out planes without a segment, so only the source tells how many lie
        between two. The object's own spacing takes priority: it may be coarser than the image's.
        """
        if self.is_tiled:
            return self
        return replace(self, planes=place_frames(self.frames, (self.spacing, spacing)))

    def mask(self, number: int) -> Mask:
        """Return the mask of one segment, on :attr:`grid`.

        Returns:
            0 and 1; for a fractional object, uint8 from 0 to ``maximum``.

        Raises:
            OptionError: If there is no such segment.
            CorruptFileError: If frames are damaged or hold impossible values.
            TooLargeError: If the mask does not fit in memory.
        """
        if number not in {segment.number for segment in self.segments}:
            numbers = listed([str(segment.number) for segment in self.segments])
            msg = f"segment must be one that {self.path} describes, {numbers}; got {number}."
            raise OptionError(msg)
        if self.is_tiled:
            self._check_slide()
            return self._on_slide(self._slide(), number)
        if self.kind == "labelmap":
            inside: Mask = self.labelmap() == number
            return inside.view(np.uint8)
        wanted = [k for k, frame in enumerate(self.frames) if frame.segment == number]
        planes = self._empty(np.uint8)
        for place, values in self._decoded_frames(wanted):
            planes[place] = values
        return self.grid.from_planes(planes)

    def labelmap(self) -> Mask:
        """Return all segments in one array, whose values are their numbers.

        Returns:
            The labels on :attr:`grid`, uint8, or uint16 if a number is above 255.

        Raises:
            OptionError: If segments overlap or are fractional, which one value cannot express.
            CorruptFileError: If frames are damaged or hold impossible values.
            TooLargeError: If the labelmap does not fit in memory.
        """
        if not self.is_whole:
            msg = f"{self.path} must hold whole segments to be one labelmap; it is FRACTIONAL."
            raise OptionError(msg)
        last = max((segment.number for segment in self.segments), default=0)
        dtype = np.uint8 if last < 256 else np.uint16
        if self.is_tiled:
            self._check_slide()
            return self._slide_labels(dtype)
        planes = self._empty(dtype)
        for (place, values), frame in zip(
            self._decoded_frames(range(len(self.frames))), self.frames, strict=True
        ):
            if frame.segment is None:
                planes[place] = values
                continue
            inside = values != 0
            if planes[place][inside].any():
                raise self._overlap(frame.segment)
            planes[place][inside] = frame.segment
        return self.grid.from_planes(planes)

    def _empty(self, dtype: type[np.unsignedinteger[Any]]) -> Mask:
        """Return empty planes ``(planes, rows, columns)`` after checking that memory suffices."""
        frame = (self.frames[0].where.rows, self.frames[0].where.columns)
        count = self.grid.count
        size = (count + DECODING) * frame[0] * frame[1] * np.dtype(dtype).itemsize
        check_fits(Path(self.path), size, f"its {count} x {frame[0]} x {frame[1]} mask")
        return np.zeros((count, *frame), dtype=dtype)

    def _decoded_frames(self, wanted: Sequence[int]) -> Iterator[tuple[int, Mask]]:
        """Yield the plane and the values of each frame, given frame indices in the file."""
        if not wanted:
            return
        with quietly(), explain_damage(self.path):
            for k, (values, _) in zip(wanted, self.file.frames(wanted), strict=True):
                where = self.frames[k].where
                if values.shape != (where.rows, where.columns):
                    found = " x ".join(map(str, values.shape))
                    msg = (
                        f"{where.where} must be {where.rows} x {where.columns} pixels; its data "
                        f"are {found}. Copy it again."
                    )
                    raise CorruptFileError(msg)
                yield self.planes.places[k], self._checked_values(values, where.where)

    def _checked_values(self, values: Mask, where: str) -> Mask:
        """Refuse values that no segment has, because they were decoded or stored wrongly."""
        if self.kind == "labelmap":
            wrong = set(np.unique(values).tolist()) - {0, *(s.number for s in self.segments)}
        else:
            wrong = {int(values.max())} if int(values.max()) > self.maximum else set()
        if wrong:
            msg = (
                f"{where} must hold what its {self.kind.upper()} segments can have; got "
                f"{min(wrong)}."
            )
            raise CorruptFileError(msg)
        return values

    def _overlap(self, number: int) -> OptionError:
        msg = (
            f"{self.path} must be split, because its segment {number} overlaps another, and "
            "one labelmap cannot hold both. Pass `split_segments`."
        )
        return OptionError(msg)

    def _check_slide(self) -> None:
        """Refuse a slide that does not fit in memory, and tiles with values of no segment."""
        rows, columns = self.grid.shape
        check_fits(Path(self.path), rows * columns * _LAYING, f"its {rows} x {columns} slide")
        for _ in self._decoded_frames(range(len(self.frames))):
            pass  # highdicom does not check values

    def _slide(self) -> Segmentation:
        """Return the object as highdicom reads it."""
        with quietly(), explain_damage(self.path):
            return Segmentation.from_dataset(self.file.whole(), copy=False)

    def _on_slide(self, slide: Segmentation, number: int) -> Mask:
        """Return a mask on the total pixel matrix, ``(rows, columns)``."""
        with quietly(), explain_damage(self.path):
            matrix: Mask = slide.get_total_pixel_matrix(
                segment_numbers=[number], rescale_fractional=False, dtype=np.uint8
            )
        return matrix[..., 0]

    def _slide_labels(self, dtype: type[np.unsignedinteger[Any]]) -> Mask:
        """Return all segments on the total pixel matrix."""
        slide = self._slide()
        labels: Mask = np.zeros(self.grid.shape, dtype=dtype)
        for segment in self.segments:
            inside = self._on_slide(slide, segment.number) != 0
            if labels[inside].any():
                raise self._overlap(segment.number)
            labels[inside] = segment.number
        return labels
