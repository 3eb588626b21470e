"""Read the attributes that a segmentation object takes from its source files, and no others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from esp_medsam.dicom.dicom_file import opened
from esp_medsam.dicom.elements import tags_of
from esp_medsam.dicom.header import read_header
from esp_medsam.dicom.joining import FRAME_OF_REFERENCE
from esp_medsam.dicom.pixel_file import explain_damage
from esp_medsam.dicom.pydicom_dataset import as_pydicom
from esp_medsam.errors import CorruptFileError, InputNotFoundError
from esp_medsam.image import Image
from esp_medsam.quiet import quietly


_REQUIRED = (
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID",
)  # fmt: skip
"""Type 2 of the Patient and General Study modules: present, even if empty."""

_WITHOUT_POSITION = ("PatientOrientation",)
"""Type 2C of the General Image module, required if no position states how the image lies."""

_IF_STATED = (
    "SpecificCharacterSet", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)  # fmt: skip
"""Type 1C: the text encoding, and whether the source pixels were compressed with loss."""

_OF_ANIMALS = (
    "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription",
    "PatientBreedCodeSequence", "BreedRegistrationSequence", "ResponsiblePerson",
    "ResponsiblePersonRole", "ResponsibleOrganization",
)  # fmt: skip
"""Types 1C and 2C of the Patient module, only for animals; the first two identify an animal."""

_NOTED = ("SeriesNumber",)
"""Read to derive a value of the object; not copied unchanged."""

_OF_CODES = (
    "CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning", "LongCodeValue",
    "URNCodeValue", "EquivalentCodeSequence", "ContextIdentifier", "ContextUID",
    "MappingResource", "MappingResourceUID", "MappingResourceName", "ContextGroupVersion",
    "ContextGroupExtensionFlag", "ContextGroupLocalVersion", "ContextGroupExtensionCreatorUID",
    "BreedRegistrationNumber", "BreedRegistryCodeSequence",
)  # fmt: skip
"""Attributes in the items of the sequences among those above."""

_READ = tags_of(*_REQUIRED, *_WITHOUT_POSITION, *_IF_STATED, *_OF_ANIMALS, *_NOTED, *_OF_CODES)

_ITEMS = 1000
"""Most items of a copied sequence; an animal has one or two."""


@dataclass(frozen=True, kw_only=True)
class SourceHeader:
    """The attributes in the files of a volume other than its pixels and positions.

    Attributes:
        attributes: Attributes copied byte for byte, because a PACS matches patients by them.
        frame_of_reference_uid: Frame of Reference UID; None if not stated.
        is_positioned: Whether the images have positions in a frame of reference.
        thickness: Slice Thickness in mm; None if not stated.
        series_number: Series Number; 0 if there is none.
        study_date: Study Date; empty if missing or unreadable.
        study_time: Study Time; empty if missing or unreadable.
    """

    attributes: Dataset
    frame_of_reference_uid: str | None
    is_positioned: bool
    thickness: float | None
    series_number: int
    study_date: str
    study_time: str


def read_source(image: Image) -> SourceHeader:
    """Return the header of a volume from the file of its first slice.

    Raises:
        InputNotFoundError: If the file is gone.
        CorruptFileError: If the file was replaced.
        EspMedSamError: If the file cannot be read.
    """
    source = image.sources[0]
    path = source.path
    if not Path(path).is_file():
        msg = f"{path} must not be removed before its segmentation is written; it was."
        raise InputNotFoundError(msg)
    with quietly():
        header = read_header(path)
    if header is None or header.sop_instance_uid != source.sop_instance_uid:
        msg = f"{path} must still be the instance {source.sop_instance_uid}; it was replaced."
        raise CorruptFileError(msg)
    frame_of_reference_uid = header.frame_of_reference_uid
    if frame_of_reference_uid is None and FRAME_OF_REFERENCE in image.joined:
        frame_of_reference_uid = _first_frame_of_reference(image)
    is_positioned = image.grid.is_positioned and frame_of_reference_uid is not None
    with quietly(), explain_damage(path):
        with opened(path) as file:
            stated = as_pydicom(file.elements(_READ).raw, _ITEMS)
        attributes = _taken_over(stated, is_positioned=is_positioned)
    own = [piece for piece in header.slices if piece.source.frame == source.frame]
    return SourceHeader(
        attributes=attributes,
        frame_of_reference_uid=frame_of_reference_uid,
        is_positioned=is_positioned,
        thickness=own[0].thickness if own else None,
        series_number=_series_number(_text(stated, "SeriesNumber")),
        study_date=_digits(_text(stated, "StudyDate"), 8),
        study_time=_digits(_text(stated, "StudyTime"), 6),
    )


def _first_frame_of_reference(image: Image) -> str | None:
    """Return the first Frame of Reference that a slice states; the user declared it common."""
    for path in dict.fromkeys(source.path for source in image.sources):
        with quietly():
            header = read_header(path)
        if header is not None and header.frame_of_reference_uid is not None:
            return header.frame_of_reference_uid
    return None


def _taken_over(stated: Dataset, *, is_positioned: bool) -> Dataset:
    """Return the attributes to copy, unchanged; missing required attributes are empty."""
    taken = Dataset()
    is_animal = any(keyword in stated for keyword in _OF_ANIMALS[:2])
    required = _REQUIRED if is_positioned else (*_REQUIRED, *_WITHOUT_POSITION)
    for keyword in (*required, *_IF_STATED, *(_OF_ANIMALS if is_animal else ())):
        if keyword in stated:
            _take(taken, stated, keyword)
        elif keyword in required:
            setattr(taken, keyword, None)
    return taken


def _take(taken: Dataset, stated: Dataset, keyword: str) -> None:
    """Copy an attribute; text is not decoded, so that undecodable text is copied as well."""
    tag = Tag(keyword)
    element: Any = stated.get_item(tag)
    representation = dictionary_VR(tag)
    if isinstance(element, RawDataElement) and representation != "SQ":
        taken[tag] = element._replace(
            VR=representation, is_implicit_VR=False, is_little_endian=True
        )
    else:
        taken[tag] = stated[tag]


def _text(dataset: Dataset, keyword: str) -> str:
    """Return a text as it stands in the file; empty if it is absent."""
    value = dataset.get_item(Tag(keyword)).value if keyword in dataset else None
    return value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else ""


def _series_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def _digits(text: str, count: int) -> str:
    """Return the first digits of a date or time; empty if it begins with fewer digits."""
    start = text[:count]
    return start if len(start) == count and start.isascii() and start.isdigit() else ""
