"""Read RT Structure Sets: regions of interest and their contours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.uid import RTStructureSetStorage

from esp_medsam.dicom.dicom_file import opened
from esp_medsam.dicom.elements import Elements, standard_name, tags_of
from esp_medsam.dicom.header import sop_class_of
from esp_medsam.dicom.seg.read.description import SEGMENT_ATTRIBUTES, codes_of, text_of
from esp_medsam.errors import CorruptFileError, FormatError
from esp_medsam.modality import Code
from esp_medsam.quiet import quietly


_ATTRIBUTES = SEGMENT_ATTRIBUTES | tags_of(
    "SOPClassUID", "ReferencedFrameOfReferenceSequence", "FrameOfReferenceUID",
    "RTReferencedStudySequence", "RTReferencedSeriesSequence", "StructureSetROISequence",
    "ROINumber", "ROIName", "ReferencedFrameOfReferenceUID", "ROIContourSequence",
    "ReferencedROINumber", "ContourSequence", "ContourGeometricType", "NumberOfContourPoints",
    "ContourData", "ContourImageSequence", "ReferencedSOPInstanceUID",
    "RTROIObservationsSequence", "RTROIIdentificationCodeSequence",
)  # fmt: skip

_LPS_TO_RAS = (-1.0, -1.0, 1.0)

_FARTHEST = 10_000.0
"""Millimeters from the origin beyond which no patient lies."""


class Contour(NamedTuple):
    """A closed line in a plane.

    Attributes:
        points: ``(N, 3)``, RAS+ in mm; the last is joined to the first.
        images: SOP Instance UIDs of the images that it states it was drawn on.
    """

    points: npt.NDArray[np.float64]
    images: frozenset[str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """A region of interest.

    Attributes:
        number: ROI Number.
        label: ROI Name, or the number if it has none.
        type: RT ROI Identification Code; None if there is none or several.
        modifiers: Modifiers of the type, such as the side.
        anatomic_regions: Always empty; such objects do not state them.
        frame_of_reference_uid: Frame of reference of its points; empty if not stated.
        items: Its contours, as they stand in the file.
    """

    number: int
    label: str
    type: Code | None
    modifiers: tuple[Code, ...]
    anatomic_regions: tuple[Code, ...] = ()
    frame_of_reference_uid: str
    items: tuple[Elements, ...]

    def contours(self) -> Iterator[Contour]:
        """Yield its contours.

        Raises:
            FormatError: If a contour is not CLOSED_PLANAR.
            CorruptFileError: If a contour does not consist of complete points within 10 m.
        """
        for item in self.items:
            kind = item.code("ContourGeometricType")
            if kind != "CLOSED_PLANAR":
                msg = (
                    f"Contours of {self.label} in {item.path} must be CLOSED_PLANAR to enclose "
                    f"something; one is {kind or 'of no kind'}."
                )
                raise FormatError(msg)
            values = item.decimals("ContourData")
            count = item.integer("NumberOfContourPoints")
            if not len(values) or len(values) % 3 or count not in (None, len(values) // 3):
                stated = "" if count is None else f"{count} "
                msg = (
                    f"A contour of {self.label} in {item.path} must be {stated}points of three "
                    f"numbers; it has {len(values)} numbers. Copy it again."
                )
                raise CorruptFileError(msg)
            if not (np.abs(values) < _FARTHEST).all():
                msg = (
                    f"Points of {self.label} in {item.path} must lie within {_FARTHEST / 1000:.0f} "
                    "m of the origin; one does not. Copy the file again."
                )
                raise CorruptFileError(msg)
            named = (image.uid("ReferencedSOPInstanceUID") for image in _images(item))
            yield Contour(values.reshape(-1, 3) * _LPS_TO_RAS, frozenset(filter(None, named)))


@dataclass(frozen=True, kw_only=True, eq=False)
class StructureSet:
    """An RT Structure Set.

    Attributes:
        path: File it was read from.
        regions: Its regions, by number.
        source_instances: SOP Instance UIDs of the images that it states it was drawn on.
    """

    path: str
    regions: tuple[Region, ...]
    source_instances: frozenset[str]


def is_structure_set(path: str | Path) -> bool:
    """Whether a DICOM file states that it is an RT Structure Set; reads only its beginning.

    Raises:
        EspMedSamError: If the beginning cannot be read.
    """
    return sop_class_of(path) == RTStructureSetStorage


def read_structure_set(path: str) -> StructureSet:
    """Read an RT Structure Set; points are decoded only on request.

    Raises:
        InputNotFoundError: If there is no such file.
        FormatError: If it is not an RT Structure Set.
        CorruptFileError: If it is damaged, or its regions have no distinct numbers.
        ReadError: If it cannot be read.
    """
    with quietly(), opened(path) as file:
        elements = file.elements(_ATTRIBUTES)
        sop_class = elements.uid("SOPClassUID") or ""
        if sop_class != RTStructureSetStorage:
            what = standard_name(sop_class) if sop_class else "nothing"
            msg = f"{path} must be an RT Structure Set; it is {what}."
            raise FormatError(msg)
        regions = tuple(_regions(elements))
    return StructureSet(path=path, regions=regions, source_instances=_sources(elements, regions))


def _regions(elements: Elements) -> Iterator[Region]:
    """Yield the regions in the file, by number."""
    characters = elements.texts("SpecificCharacterSet")
    drawn = _by_region(elements, "ROIContourSequence")
    observed = _by_region(elements, "RTROIObservationsSequence")
    frames = elements.items("ReferencedFrameOfReferenceSequence")
    only = frames[0].uid("FrameOfReferenceUID") if len(frames) == 1 else None
    described: dict[int, Elements] = {}
    for item in elements.items("StructureSetROISequence"):
        number = item.integer("ROINumber")
        if number is None or number in described:
            got = "none" if number is None else f"{number} twice"
            msg = f"Regions of {elements.path} must have distinct numbers; got {got}."
            raise CorruptFileError(msg)
        described[number] = item
    for number, item in sorted(described.items()):
        coded = [
            code
            for observation in observed.get(number, ())
            for code in observation.items("RTROIIdentificationCodeSequence")
        ]
        types = [
            code
            for observation in observed.get(number, ())
            for code in codes_of(observation, "RTROIIdentificationCodeSequence", characters)
        ]
        modifiers = "SegmentedPropertyTypeModifierCodeSequence"
        yield Region(
            number=number,
            label=text_of(item, "ROIName", characters) or f"region {number}",
            type=types[0] if len(types) == 1 else None,
            modifiers=tuple(code for one in coded for code in codes_of(one, modifiers, characters)),
            frame_of_reference_uid=item.uid("ReferencedFrameOfReferenceUID") or only or "",
            items=tuple(
                contour for one in drawn.get(number, ()) for contour in one.items("ContourSequence")
            ),
        )


def _by_region(elements: Elements, sequence: str) -> Mapping[int, Sequence[Elements]]:
    """Return the items of a sequence by the number of their region."""
    found: dict[int, list[Elements]] = {}
    for item in elements.items(sequence):
        number = item.integer("ReferencedROINumber")
        if number is not None:
            found.setdefault(number, []).append(item)
    return found


def _images(item: Elements) -> tuple[Elements, ...]:
    return item.items("ContourImageSequence")


def _sources(elements: Elements, regions: Sequence[Region]) -> frozenset[str]:
    """Return the UIDs of all images that the file or one of its contours references."""
    images = [image for region in regions for item in region.items for image in _images(item)]
    for frame in elements.items("ReferencedFrameOfReferenceSequence"):
        for study in frame.items("RTReferencedStudySequence"):
            for series in study.items("RTReferencedSeriesSequence"):
                images += _images(series)
    uids = (image.uid("ReferencedSOPInstanceUID") for image in images)
    return frozenset(filter(None, uids))
