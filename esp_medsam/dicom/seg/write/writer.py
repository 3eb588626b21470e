"""Turn masks and the record of their image into a DICOM Segmentation object.

highdicom describes segments, algorithm, colors, positions and spacings. Its constructor for whole
objects is not used: it refuses frames without a frame of reference, such as a cine's, and takes
probabilities only as floats, with four copies in memory. Here frames are packed one by one, and
each is linked to the instance and frame that its slice was read from.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmwrite

from esp_medsam.dicom.packed_bits import PixelPacker, one_byte_a_pixel
from esp_medsam.dicom.seg import SEG_KINDS
from esp_medsam.dicom.seg.write.frames import (
    FrameGroups,
    Mask,
    filled_planes,
)
from esp_medsam.dicom.seg.write.header import identified_dataset
from esp_medsam.dicom.seg.write.identity import SegIdentity, fixed_identity, new_identity
from esp_medsam.dicom.seg.write.segments import (
    describe_algorithm,
    describe_background,
    describe_segment,
    series_description,
)
from esp_medsam.dicom.seg.write.source import SourceHeader, read_source
from esp_medsam.errors import FormatError, GeometryError, OptionError, OutputError, check_one_of
from esp_medsam.image import FOREGROUND, Image, check_on_grid
from esp_medsam.modality import Target
from esp_medsam.quiet import quietly
from esp_medsam.version import __version__


_MOST_BYTES = 2**32 - 2
"""Most bytes of uncompressed Pixel Data."""


def build_segmentation(
    image: Image,
    masks: Iterable[npt.NDArray[Any]],
    targets: Sequence[Target],
    *,
    kind: str = "binary",
    weights_sha256: str | None = None,
    version: str = __version__,
    settings: Mapping[str, Any] | None = None,
    fixed: bool = False,
    write_empty: bool = False,
) -> Dataset | None:
    """Return the DICOM Segmentation of masks on the grid of a DICOM image.

    Frames and segments without foreground are left out, except for one empty frame if the pixels
    would otherwise take an odd number of bytes. If some of several ``"binary"`` frames would begin
    inside a byte, they are stored as FRACTIONAL of 0 and 1, one byte per pixel, because OHIF would
    misplace them. Only patient and study attributes are copied from the image's files.

    Args:
        image: Record of the image: its grid, and the instance that each slice was read from.
        masks: One array per target, on the grid of the image: 0/1 for ``"binary"``, which may
            overlap; 255 times the probability for ``"fractional"``; for ``"labelmap"``, a single
            array of the targets' labels. They are consumed one by one, so a generator works.
        targets: The targets, in the order of the masks.
        kind: One of :data:`SEG_KINDS`.
        weights_sha256: Hash of the weights; None if they have no file.
        version: Version of the software.
        settings: Other settings that the result depends on.
        fixed: Whether UIDs, date and time follow from the image's instances, the weights and the
            settings, so that the same result gives the same object, byte for byte.
        write_empty: Whether masks without foreground yield an object, with one empty frame per
            target.

    Returns:
        The object, for :func:`write_segmentation`; None if all masks are empty and ``write_empty``
        is false.

    Raises:
        OptionError: If the kind is unknown, or the image is not a DICOM image.
        FormatError: If its files lack attributes that the object must state.
        GeometryError: If a mask is not on the grid of the image.
        TableError: If a code of a target has a meaning that is not ASCII.
        OutputError: If the frames exceed the size of one object.
        EspMedSamError: If a file of the image can no longer be read.
    """
    check_one_of("seg_type", kind, SEG_KINDS)
    check_source(image)
    header = read_source(image)
    made_with = {"weights_sha256": weights_sha256, "version": version, "settings": settings or {}}
    content = _Content(image, header, kind, describe_algorithm(made_with))
    if kind == "labelmap":
        content.add_labelmap(next(iter(masks)), targets)
    else:
        for mask, target in zip(masks, targets, strict=True):
            content.add_mask(mask, target)
    if not content.segments:
        if not write_empty:
            return None
        content.add_empty(targets)
    identity = new_identity()
    if fixed:
        when = (header.study_date, header.study_time)
        identity = fixed_identity(image, targets, {"kind": kind, **made_with}, when)
    dataset = identified_dataset(image, header, identity, kind, version)
    dataset.DeviceSerialNumber = weights_sha256 or "0"
    dataset.SeriesDescription = series_description(content.found)
    content.fill(dataset, identity)
    return dataset


def not_dicom(instead: str, path: str | os.PathLike[str] = "") -> OptionError:
    """Return the error for an image that cannot have a DICOM segmentation."""
    which = f"; {os.fspath(path)} is not" if path else ""
    msg = (
        f"output_format must not be dicom-seg for images that are not DICOM{which}. Use {instead}."
    )
    return OptionError(msg)


def check_source(image: Image) -> None:
    """Refuse an image that cannot have a standard segmentation, before anything is computed.

    Raises:
        OptionError: If it is not a DICOM image.
        FormatError: If it lacks an attribute that the object must state.
        GeometryError: If it does not have one instance for each slice.
    """
    if not image.sources:
        raise not_dicom("nifti" if image.grid.is_volume else "png", image.path)
    stated = {
        "StudyInstanceUID (0020,000D)": image.study_uid,
        "SeriesInstanceUID (0020,000E)": image.series_uid,
    }
    for name, value in stated.items():
        if not value:
            other = "nifti" if image.grid.affine is not None or not image.grid.is_volume else "png"
            msg = (
                f"{image.path} ({image.name}) must state {name}, which a DICOM segmentation "
                f"refers to. Use output_format {other}."
            )
            raise FormatError(msg)
    if len(image.sources) != image.grid.count:
        msg = (
            f"{image.path} ({image.name}) must name one instance for each of its "
            f"{image.grid.count} slices; it names {len(image.sources)}."
        )
        raise GeometryError(msg)


def write_segmentation(dataset: Dataset, file: BinaryIO) -> None:
    """Write a segmentation object as a DICOM file.

    Args:
        dataset: Object from :func:`build_segmentation`.
        file: File open for writing in binary mode.

    Raises:
        OSError: If the bytes cannot be written.
    """
    try:
        with quietly():  # copied attributes stay as in the source, right or wrong
            dcmwrite(file, dataset, enforce_file_format=True)
    except OSError as error:
        # pydicom raises a new error without the errno that identifies a full disk.
        cause = error.__cause__
        raise cause if isinstance(cause, OSError) else error from None


class _Content:
    """The segments and frames of an object, added target by target."""

    def __init__(self, image: Image, header: SourceHeader, kind: str, algorithm: Any) -> None:
        self.image = image
        self.kind = kind
        self.algorithm = algorithm
        self.segments: list[Dataset] = []
        self.found: list[Target] = []
        self.groups = FrameGroups(image, header, segments_apart=kind != "labelmap")
        self._frames: list[tuple[int, int | None]] = []
        self._packer = PixelPacker(1 if kind == "binary" else 8)
        self._covered: npt.NDArray[np.bool_] | None = None
        self._overlap = False

    def add_mask(self, mask: npt.NDArray[Any], target: Target) -> None:
        """Add a segment and its frames, or nothing if the mask is empty."""
        mask = self._checked_mask(mask)
        foreground = mask != 0 if self.kind == "binary" else mask >= FOREGROUND
        if not foreground.any():
            return
        number = len(self.segments) + 1
        self.segments.append(describe_segment(number, target, self.algorithm))
        self.found.append(target)
        self._see_overlap(foreground)
        self._add_frames(foreground.view(np.uint8) if self.kind == "binary" else mask, number)

    def add_labelmap(self, labelmap: npt.NDArray[Any], targets: Sequence[Target]) -> None:
        """Add the segments whose labels occur, and the frames that hold them all."""
        labelmap = self._checked_mask(labelmap)
        present = set(np.unique(labelmap).tolist()) - {0}
        by_label = {target.label: target for target in sorted(targets, key=lambda t: t.label)}
        unknown = present - set(by_label)
        if unknown:
            msg = (
                f"A labelmap must hold only the labels of its targets; got also {sorted(unknown)}."
            )
            raise GeometryError(msg)
        if present:
            self.found = [t for label, t in by_label.items() if label in present]
            self._describe_labels(self.found)
            self._add_frames(labelmap, None)

    def add_empty(self, targets: Sequence[Target]) -> None:
        """Add every target with an empty frame (a labelmap, one in all), as frames are required."""
        rows, columns = self.image.grid.plane_size
        blank = np.zeros((rows, columns), dtype=np.uint8)
        if self.kind == "labelmap":
            self._describe_labels(sorted(targets, key=lambda target: target.label))
        for number, target in enumerate(targets, start=1):
            if self.kind != "labelmap":
                self.segments.append(describe_segment(number, target, self.algorithm))
            elif number > 1:
                break
            self._frames.append((0, None if self.kind == "labelmap" else number))
            self._packer.add(blank)

    def fill(self, dataset: Dataset, identity: SegIdentity) -> None:
        """Write segments, frames and pixels into the object."""
        rows, columns = self.image.grid.plane_size
        bits = self._settle_bits()
        kind = "fractional" if self.kind == "binary" and bits == 8 else self.kind
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.NumberOfFrames = len(self._frames)
        dataset.Rows, dataset.Columns = rows, columns
        dataset.BitsAllocated = dataset.BitsStored = bits
        dataset.HighBit = bits - 1
        dataset.PixelRepresentation = 0
        dataset.SegmentationType = kind.upper()
        dataset.SegmentsOverlap = self._overlapping
        if kind == "fractional":
            dataset.SegmentationFractionalType = "PROBABILITY"
            dataset.MaximumFractionalValue = 255 if self.kind == "fractional" else 1
        if self.kind == "labelmap":
            dataset.PixelPaddingValue = 0
        dataset.SegmentSequence = self.segments
        organization = Dataset()
        organization.DimensionOrganizationUID = identity.dimension_uid
        dataset.DimensionOrganizationSequence = [organization]
        dataset.DimensionIndexSequence = self.groups.dimensions(identity.dimension_uid)
        dataset.SharedFunctionalGroupsSequence = [self.groups.shared()]
        planes = {plane: k for k, plane in enumerate(sorted({p for p, _ in self._frames}), 1)}
        dataset.PerFrameFunctionalGroupsSequence = [
            self.groups.of_frame(plane, planes[plane], segment) for plane, segment in self._frames
        ]
        content = self._packer.finish()
        if bits > self._packer.bits:
            content = one_byte_a_pixel(content, rows * columns * len(self._frames))
        dataset.PixelData = content
        dataset["PixelData"].VR = "OB"

    def _settle_bits(self) -> int:
        """Return the bits per pixel with which viewers read the frames correctly.

        dcmjs, and with it OHIF, reads the bits of frames that begin inside a byte in the wrong
        order, and refuses a padding byte to an even length (0.52, `readUncompressed`). It accepts
        a lone frame as it is.
        """
        rows, columns = self.image.grid.plane_size
        pixels, bits = rows * columns, self._packer.bits
        if len(self._frames) == 1:
            return bits
        if pixels % 8:
            bits = 8
        is_odd = pixels * bits // 8 * len(self._frames) % 2
        return 8 if is_odd and not self._add_empty_frame() else bits

    def _add_empty_frame(self) -> bool:
        """Add an empty frame as near as possible to the others; return False if none is free."""
        taken = set(self._frames)
        for segment in dict.fromkeys(segment for _, segment in reversed(self._frames)):
            own = [plane for plane, number in self._frames if number == segment]
            known = {plane for plane, _ in self._frames}
            free = [p for p in range(self.image.grid.count) if (p, segment) not in taken]
            if free:
                nearest = min(free, key=lambda p: (p not in known, abs(p - own[-1])))
                self._frames.append((nearest, segment))
                self._packer.add(np.zeros(self.image.grid.plane_size, dtype=np.uint8))
                return True
        return False

    @property
    def _overlapping(self) -> str:
        if self.kind == "fractional" and len(self.segments) > 1:
            return "UNDEFINED"
        return "YES" if self._overlap else "NO"

    def _checked_mask(self, mask: npt.NDArray[Any]) -> Mask:
        check_on_grid(self.image, mask.shape)
        if mask.dtype not in (np.uint8, np.bool_):
            msg = f"A mask must be uint8 or bool; got {mask.dtype}."
            raise TypeError(msg)
        return mask.view(np.uint8)

    def _see_overlap(self, foreground: npt.NDArray[np.bool_]) -> None:
        if self._covered is None:
            self._covered = foreground.copy()
        elif not self._overlap:
            self._overlap = bool((self._covered & foreground).any())
            self._covered |= foreground

    def _describe_labels(self, targets: Sequence[Target]) -> None:
        self.segments = [
            describe_background(),
            *(describe_segment(target.label, target, self.algorithm) for target in targets),
        ]

    def _add_frames(self, values: Mask, segment: int | None) -> None:
        rows, columns = self.image.grid.plane_size
        growth = 8 if self._packer.bits == 1 and rows * columns % 8 else 1
        for plane in filled_planes(values):
            self._packer.add(self.image.grid.plane(values, plane))
            self._frames.append((plane, segment))
            if self._packer.size * growth > _MOST_BYTES:
                msg = (
                    f"The {self.kind} segmentation of {self.image.path} ({self.image.name}) "
                    "must fit in 4 GiB, the most that one object holds; it does not. Choose "
                    "fewer targets."
                )
                raise OutputError(msg)
