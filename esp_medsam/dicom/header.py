"""The header of one DICOM file, and whether the pixels that it claims are there.

What a file claims is never believed before it is found: no read asks for more than is left of the
file, no list is longer than the file has frames, nothing is inflated without a limit.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from esp_medsam.dicom.claims import PIXEL_TAGS, BoundedFile, PixelPart, check_pixels, inflated
from esp_medsam.dicom.elements import Elements
from esp_medsam.dicom.frames import is_stack, slices_of
from esp_medsam.dicom.volume import DicomSlice
from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    ReadError,
)
from esp_medsam.image import SourceInstance
from esp_medsam.quiet import quietly


_NO_IMAGES = (
    "1.2.840.10008.1.3.10",  # DICOMDIR
    "1.2.840.10008.5.1.4.1.1.4.2",  # spectroscopy
    "1.2.840.10008.5.1.4.1.1.9.",  # waveforms
    "1.2.840.10008.5.1.4.1.1.11.",  # presentation states
    "1.2.840.10008.5.1.4.1.1.30",  # parametric maps
    "1.2.840.10008.5.1.4.1.1.66",  # raw data, segmentations, registrations, surfaces
    "1.2.840.10008.5.1.4.1.1.67",  # real world values
    "1.2.840.10008.5.1.4.1.1.77.1.5.3",  # stereometry
    "1.2.840.10008.5.1.4.1.1.88.",  # structured reports
    "1.2.840.10008.5.1.4.1.1.104.",  # encapsulated documents
    "1.2.840.10008.5.1.4.1.1.481.",  # radiotherapy: plans, doses, structures, portal images
    "1.2.840.10008.5.1.4.34.",  # radiotherapy: delivery
)
"""Beginnings of the SOP classes that hold something else than images of a patient."""

_KEYWORDS = (
    "ImageType", "SOPClassUID", "SOPInstanceUID", "AcquisitionTime", "ContentTime", "Modality",
    "SliceThickness", "EchoTime", "EchoNumbers", "ImagerPixelSpacing", "TriggerTime",
    "NominalPercentageOfCardiacPhase", "InversionTime", "FlipAngle", "ConvolutionKernel",
    "InstanceNumber", "SequenceOfUltrasoundRegions", "DiffusionBValue",
    "DiffusionGradientOrientation",
    "StudyInstanceUID", "SeriesInstanceUID", "AcquisitionNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "FrameOfReferenceUID", "TemporalPositionIdentifier",
    "ConcatenationUID", "DimensionIndexSequence", "SamplesPerPixel", "PhotometricInterpretation",
    "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "RescaleIntercept",
    "RescaleSlope", "RescaleType", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_PRIVATE = (
    0x00190010, 0x0019100C, 0x0019100E, 0x00430010, 0x00431039, 0x20010010, 0x20011003,
)  # fmt: skip
_TAGS: list[BaseTag | int] = [cast(int, tag_for_keyword(keyword)) for keyword in _KEYWORDS] + list(
    _PRIVATE
)
"""What is read of a header; the rest, a patient's name included, is skipped."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What one file says.

    Attributes:
        path: The file.
        sop_class_uid: SOP Class UID.
        sop_instance_uid: SOP Instance UID; None where it is missing.
        study_uid: Study Instance UID.
        series_uid: Series Instance UID; None where it is missing.
        frame_of_reference_uid: Frame of Reference UID.
        dicom_modality: Modality (0008,0060).
        positioned: Whether its images are slices that lie somewhere.
        batch: What all frames of a multi-frame volume share: the UID of its concatenation or
            instance; None of single images.
        slices: Its images; none where there is a problem.
        problem: Why it cannot be read.
    """

    path: str
    sop_class_uid: str
    sop_instance_uid: str | None
    study_uid: str | None
    series_uid: str | None
    frame_of_reference_uid: str | None
    dicom_modality: str | None
    positioned: bool
    batch: str | None = None
    slices: tuple[DicomSlice, ...] = ()
    problem: EspMedSamError | None = None


def is_dicom(path: str | Path) -> bool:
    """Whether the file begins as DICOM: with its magic word, or with a first element without it.

    Reads 132 bytes at most. A file that cannot be opened is none.
    """
    try:
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or _begins_with_element(start)


def read_header(path: str | Path) -> Header | None:
    """Return what a DICOM file says; None where it holds no image of a patient.

    Raises:
        ReadError: If the file cannot be opened.
        CorruptFileError: If its header cannot be followed.
        FormatError: If it does not say what it is.
        TooLargeError: If it inflates without end.
    """
    name = os.fspath(path)
    with _followed(name) as file:
        return _header(file, name)


def sop_class_of(path: str | Path) -> str:
    """Return the SOP Class UID that a DICOM file states first; empty where it states none.

    Raises:
        ReadError: If the file cannot be opened.
        CorruptFileError: If its header cannot be followed so far.
        TooLargeError: If it inflates without end.
    """
    with _followed(os.fspath(path)) as file:
        meta, file, encoding = _begun(file, os.fspath(path))
        stated = meta.text(0x00020002)
        if stated:
            return stated
        implicit, little = encoding
        dataset = _read(file, implicit=implicit, little=little, until=_after_class)
        return Elements(dataset, os.fspath(path)).text("SOPClassUID")


@contextmanager
def _followed(path: str) -> Iterator[BoundedFile]:
    """Open a file whose header is to be followed, and turn what that raises into our errors."""
    try:
        with Path(path).open("rb") as file, quietly():  # what matters is checked here
            yield BoundedFile(file)
    except EspMedSamError:
        raise
    except Exception as error:  # pydicom names no set of errors that a damaged file can cause
        if isinstance(error, OSError) and error.strerror:  # the system's; pydicom's has none
            msg = f"{path} must be readable; got: {error.strerror}."
            raise ReadError(msg) from error
        raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> CorruptFileError:
    kind = type(error).__name__
    return CorruptFileError(f"{path} must be a whole DICOM file; its header is damaged ({kind}).")


def _begun(file: BoundedFile, path: str) -> tuple[Elements, BoundedFile, tuple[bool, bool]]:
    """Return the file meta information, the file at its data set, and how that is encoded."""
    has_magic = file.read(132)[128:] == b"DICM"
    if not has_magic:
        file.seek(0)
    meta = Elements(_read(file, implicit=False, little=True, until=_after_meta), path)
    syntax = meta.text(0x00020010)
    if syntax == DeflatedExplicitVRLittleEndian:
        file = inflated(file, path)
    return meta, file, _encoding(file, syntax)


def _header(file: BoundedFile, path: str) -> Header | None:
    meta, file, (implicit, little) = _begun(file, path)
    syntax = meta.text(0x00020010)
    part = PixelPart()

    def at_pixels(tag: BaseTag, _: str | None, length: int) -> bool:
        if tag in PIXEL_TAGS:
            part.tag, part.length, part.start = int(tag), length, file.tell()
            return True
        return False

    dataset = _read(file, implicit=implicit, little=little, until=at_pixels, tags=_TAGS)
    elements = Elements(dataset, path)
    sop_class_uid = elements.text("SOPClassUID") or meta.text(0x00020002)
    if sop_class_uid.startswith(_NO_IMAGES):
        return None
    if not part.tag and not elements.has("Rows") and not _is_image_class(sop_class_uid):
        return None
    if not sop_class_uid:
        error = elements.missing("SOPClassUID")
        raise error
    return _described(elements, sop_class_uid, file, part, syntax)


def _described(
    elements: Elements, sop_class_uid: str, file: BoundedFile, part: PixelPart, syntax: str
) -> Header:
    """Return the header, with its slices or with what is wrong."""
    slices: tuple[DicomSlice, ...] = ()
    problem: EspMedSamError | None = None
    identity: dict[str, str | None] = {}
    positioned, batch = False, None
    try:
        identity["SeriesInstanceUID"] = elements.uid("SeriesInstanceUID")
        positioned = is_stack(elements, sop_class_uid)
        for keyword in ("SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
            identity[keyword] = elements.uid(keyword)
        for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"):
            if elements.uid(keyword) is None:
                raise elements.missing(keyword)
        frames = elements.integer("NumberOfFrames", least=1) or 1
        check_pixels(elements, file, part, syntax, frames)
        if elements.has("PerFrameFunctionalGroupsSequence"):
            batch = elements.uid("ConcatenationUID") or identity["SOPInstanceUID"]
        source = SourceInstance(
            path=elements.path,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=identity["SOPInstanceUID"] or "",
        )
        slices = slices_of(elements, source, frames, positioned=positioned)
    except EspMedSamError as error:
        problem = error
    except Exception as error:  # what is nested may be damaged too: its series is known already
        problem = _damaged(elements.path, error)
    return Header(
        path=elements.path,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=identity.get("SOPInstanceUID"),
        study_uid=identity.get("StudyInstanceUID"),
        series_uid=identity.get("SeriesInstanceUID"),
        frame_of_reference_uid=identity.get("FrameOfReferenceUID"),
        dicom_modality=elements.text("Modality") or None,
        positioned=positioned,
        batch=batch,
        slices=slices,
        problem=problem,
    )


def _read(
    file: BoundedFile,
    *,
    implicit: bool,
    little: bool,
    until: Callable[[BaseTag, str | None, int], bool],
    tags: list[BaseTag | int] | None = None,
) -> Dataset:
    return read_dataset(
        cast(BinaryIO, file),
        implicit,
        little,
        stop_when=until,
        specific_tags=tags,
    )


def _after_meta(tag: BaseTag, *_: object) -> bool:
    return tag >> 16 != 2


def _after_class(tag: BaseTag, *_: object) -> bool:
    return int(tag) > 0x00080016


def _begins_with_element(start: bytes) -> bool:
    """Whether the first bytes are an element of group 2 or 8, as of files without a preamble."""
    if len(start) < 16:
        return False
    for order in "<>":
        group, element = struct.unpack(f"{order}HH", start[:4])
        if group not in (2, 8) or element > 0x100:
            continue
        length: int = struct.unpack(f"{order}L", start[4:8])[0]
        return start[4:6] in _EXPLICIT or (order == "<" and length <= 1024)
    return False


_EXPLICIT = (b"UL", b"OB", b"UI", b"CS", b"DA", b"TM", b"SH", b"LO", b"SQ")


def _encoding(file: BoundedFile, syntax: str) -> tuple[bool, bool]:
    """Return whether the data set is implicit VR, and little endian; its first bytes say it all.

    pydicom sees for itself where a file is explicit though its transfer syntax says implicit.
    """
    start = file.tell()
    first = file.read(6)
    file.seek(start)
    if syntax:
        return syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    explicit = first[4:6].isalpha() and first[4:6].isupper()
    big = explicit and struct.unpack("<H", first[:2])[0] >= 0x0400
    return not explicit, not big


def _is_image_class(sop_class_uid: str) -> bool:
    return "Image Storage" in UID(sop_class_uid).name
