"""Read the header of a DICOM file, and check that its pixel data are complete."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from esp_medsam.dicom.dicom_file import SOP_CLASS, DicomFile, damage_error, opened
from esp_medsam.dicom.elements import Elements, standard_name, tags_of
from esp_medsam.dicom.frames import SLICE_ATTRIBUTES, is_stack, slices_of
from esp_medsam.dicom.limits import check_pixels, frames_claimed
from esp_medsam.dicom.modality import SOP_CLASS_MODALITIES
from esp_medsam.dicom.volume import DicomSlice
from esp_medsam.errors import EspMedSamError
from esp_medsam.identity import FileState
from esp_medsam.image import SourceInstance


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
"""Prefixes of the SOP classes that hold something other than images of a patient."""

_CLASS = tags_of("SOPClassUID")
_ATTRIBUTES = _CLASS | SLICE_ATTRIBUTES | tags_of(
    "SOPInstanceUID", "Modality", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    "ConcatenationUID", "ImagesInAcquisition", "SamplesPerPixel", "PhotometricInterpretation",
    "NumberOfFrames", "BitsAllocated",
)  # fmt: skip
"""Attributes that are read from a header; the rest, including the patient's name, is skipped."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of one file.

    Attributes:
        path: The file.
        state: What the operating system said about the file when it was opened.
        sop_class_uid: SOP Class UID.
        sop_instance_uid: SOP Instance UID; None if it is missing.
        study_uid: Study Instance UID.
        series_uid: Series Instance UID; None if it is missing.
        frame_of_reference_uid: Frame of Reference UID.
        dicom_modality: Modality (0008,0060).
        positioned: Whether the images are slices with a position.
        batch: UID that all frames of a multi-frame volume share, of their concatenation or
            instance; None for single images.
        number: Instance Number; None if it is missing or invalid.
        acquisition: Acquisition Number; likewise.
        images_in_acquisition: Images in Acquisition; likewise.
        slices: Images of the file; empty if there is a problem.
        problem: Why the file cannot be read.
    """

    path: str
    state: FileState
    sop_class_uid: str
    sop_instance_uid: str | None
    study_uid: str | None
    series_uid: str | None
    frame_of_reference_uid: str | None
    dicom_modality: str | None
    positioned: bool
    batch: str | None = None
    number: int | None = None
    acquisition: int | None = None
    images_in_acquisition: int | None = None
    slices: tuple[DicomSlice, ...] = ()
    problem: EspMedSamError | None = None


def read_header(path: str | Path) -> Header | None:
    """Return the header of a DICOM file; None if it holds no image of a patient.

    Raises:
        ReadError: If the file cannot be opened.
        CorruptFileError: If its header cannot be parsed.
        FormatError: If the file does not state what it is.
        TooLargeError: If the file inflates to too much.
    """
    with opened(path) as file:
        return _header(file)


def sop_class_of(path: str | Path) -> str:
    """Return the SOP Class UID that a DICOM file states first; empty if it states none.

    Raises:
        ReadError: If the file cannot be opened.
        CorruptFileError: If its header cannot be parsed up to the SOP Class UID.
        TooLargeError: If the file inflates to too much.
    """
    with opened(path) as file:
        stated = file.meta.uid_or_none(SOP_CLASS)
        return stated or file.elements(_CLASS, last=max(_CLASS)).uid_or_none("SOPClassUID") or ""


def _header(file: DicomFile) -> Header | None:
    elements = file.elements(_ATTRIBUTES)
    stated = elements.uid_or_none("SOPClassUID"), file.meta.uid_or_none(SOP_CLASS)
    sop_class_uid = stated[0] or stated[1] or ""
    if sop_class_uid.startswith(_NO_IMAGES):
        return None
    if not sop_class_uid:
        error = elements.missing("SOPClassUID")
        raise error
    holds_pixels = file.pixels.tag or elements.has("Rows")
    if not holds_pixels and "Image Storage" not in standard_name(sop_class_uid):
        if standard_name(sop_class_uid) == sop_class_uid and not elements.has("SeriesInstanceUID"):
            error = elements.missing("SeriesInstanceUID")  # unknown class, cut short
            raise error
        return None
    return _header_of(elements, sop_class_uid, file)


def _header_of(elements: Elements, sop_class_uid: str, file: DicomFile) -> Header:
    """Return the header, with its slices or with its problem."""
    slices: tuple[DicomSlice, ...] = ()
    problem: EspMedSamError | None = None
    identity: dict[str, str | None] = {}
    positioned, batch, modality = False, None, None
    try:
        identity["SeriesInstanceUID"] = elements.uid("SeriesInstanceUID")
        positioned = is_stack(elements, sop_class_uid)
        for keyword in ("SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
            identity[keyword] = elements.uid(keyword)
        for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"):
            if elements.uid(keyword) is None:
                raise elements.missing(keyword)
        modality = _modality_of(elements)
        frames = frames_claimed(elements)
        check_pixels(elements, file, frames)
        if elements.has("PerFrameFunctionalGroupsSequence"):
            batch = elements.uid("ConcatenationUID") or identity["SOPInstanceUID"]
        source = SourceInstance(
            path=elements.path,
            sop_class_uid=sys.intern(sop_class_uid),
            sop_instance_uid=identity["SOPInstanceUID"] or "",
        )
        slices = slices_of(elements, source, frames, positioned=positioned)
    except EspMedSamError as error:
        problem = error
    except Exception as error:  # nested items may be damaged too; the series is already known
        problem = damage_error(elements.path, error)
    return Header(
        path=elements.path,
        state=file.state,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=identity.get("SOPInstanceUID"),
        study_uid=identity.get("StudyInstanceUID"),
        series_uid=identity.get("SeriesInstanceUID"),
        frame_of_reference_uid=identity.get("FrameOfReferenceUID"),
        dicom_modality=modality,
        positioned=positioned,
        batch=batch,
        number=elements.integer_or_none("InstanceNumber"),
        acquisition=elements.integer_or_none("AcquisitionNumber"),
        images_in_acquisition=elements.integer_or_none("ImagesInAcquisition"),
        slices=slices,
        problem=problem,
    )


def _modality_of(elements: Elements) -> str | None:
    """Return the Modality in capitals; some writers use lowercase, which codes do not allow."""
    modality = elements.text("Modality").upper()
    known = SOP_CLASS_MODALITIES.values()
    return modality if modality in known else elements.code("Modality")
