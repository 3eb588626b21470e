"""Describe the segments of a segmentation object of any origin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from highdicom.color import CIELabColor

from esp_medsam.dicom.elements import Elements, tags_of
from esp_medsam.errors import CorruptFileError, one_line
from esp_medsam.modality import Code


SEGMENT_ATTRIBUTES = tags_of(
    "SpecificCharacterSet", "SegmentSequence", "SegmentNumber", "SegmentLabel",
    "SegmentAlgorithmType", "SegmentAlgorithmName", "TrackingID", "TrackingUID",
    "RecommendedDisplayCIELabValue", "SegmentedPropertyCategoryCodeSequence",
    "SegmentedPropertyTypeCodeSequence", "SegmentedPropertyTypeModifierCodeSequence",
    "AnatomicRegionSequence", "CodeValue", "LongCodeValue", "URNCodeValue",
    "CodingSchemeDesignator", "CodeMeaning",
)  # fmt: skip
"""What is read of segments."""

_LONGEST = 256
"""Characters kept of a text: four times what a label may have."""


@dataclass(frozen=True, kw_only=True)
class SegSegment:
    """What a segmentation object says of one of its segments.

    Attributes:
        number: Segment Number, which a labelmap has as its value.
        label: Segment Label; the meaning of its type, or its number, where it has none.
        category: Segmented Property Category; None where it is missing.
        type: Segmented Property Type; None where it is missing.
        modifiers: Modifiers of the type, such as the side.
        anatomic_regions: Where it lies, as codes.
        algorithm_type: ``AUTOMATIC``, ``SEMIAUTOMATIC`` or ``MANUAL``; empty where it is missing.
        algorithm_name: What made it; empty where it is missing.
        tracking_id: What follows it from study to study; empty without.
        tracking_uid: The same as a UID; empty without.
        color: RGB that it asks to be shown in; None without.
    """

    number: int
    label: str
    category: Code | None = None
    type: Code | None = None
    modifiers: tuple[Code, ...] = ()
    anatomic_regions: tuple[Code, ...] = ()
    algorithm_type: str = ""
    algorithm_name: str = ""
    tracking_id: str = ""
    tracking_uid: str = ""
    color: tuple[int, int, int] | None = None


def read_segments(elements: Elements) -> tuple[SegSegment, ...]:
    """Return the segments of an object, by number; value 0 of a labelmap is no segment.

    Raises:
        CorruptFileError: If it describes none, one without a number, or one number twice.
    """
    path, characters = elements.path, elements.texts("SpecificCharacterSet")
    segments: dict[int, SegSegment] = {}
    for item in elements.items("SegmentSequence"):
        number = item.integer_or_none("SegmentNumber")
        if number is None or number in segments:
            got = "none" if number is None else "one twice"
            msg = f"Segments of {path} must have distinct numbers (0062,0004); got {got}."
            raise CorruptFileError(msg)
        segments[number] = _segment(item, number, characters)
    if not segments:
        msg = f"{path} must describe its segments (0062,0002); it describes none."
        raise CorruptFileError(msg)
    return tuple(segments[number] for number in sorted(segments) if number != 0)


def _segment(item: Elements, number: int, characters: Sequence[str]) -> SegSegment:
    def text(keyword: str) -> str:
        return text_of(item, keyword, characters)

    types = codes_of(item, "SegmentedPropertyTypeCodeSequence", characters)
    categories = codes_of(item, "SegmentedPropertyCategoryCodeSequence", characters)
    described = item.item("SegmentedPropertyTypeCodeSequence")
    modifiers = "SegmentedPropertyTypeModifierCodeSequence"
    meaning = types[0].meaning if types else ""
    return SegSegment(
        number=number,
        label=text("SegmentLabel") or meaning or f"segment {number}",
        category=categories[0] if categories else None,
        type=types[0] if types else None,
        modifiers=codes_of(described, modifiers, characters) if described else (),
        anatomic_regions=codes_of(item, "AnatomicRegionSequence", characters),
        algorithm_type=text("SegmentAlgorithmType"),
        algorithm_name=text("SegmentAlgorithmName"),
        tracking_id=text("TrackingID"),
        tracking_uid=text("TrackingUID"),
        color=_color(item),
    )


def codes_of(item: Elements, keyword: str, characters: Sequence[str]) -> tuple[Code, ...]:
    """Return the codes of a sequence, however long their values are.

    Args:
        item: What holds the sequence.
        keyword: The sequence.
        characters: Specific Character Set of the file.
    """
    found = []
    for code in item.items(keyword):
        values = (text_of(code, f"{kind}CodeValue", characters) for kind in ("", "Long", "URN"))
        value = next((value for value in values if value), "")
        if value:
            scheme = text_of(code, "CodingSchemeDesignator", characters)
            found.append(Code(value, scheme, text_of(code, "CodeMeaning", characters)))
    return tuple(found)


def text_of(item: Elements, keyword: str, characters: Sequence[str]) -> str:
    """Return a text in one line, not longer than a label can be."""
    return one_line(item.decoded(keyword, characters))[:_LONGEST]


def _color(item: Elements) -> tuple[int, int, int] | None:
    """Return RGB of a CIELab value; None where it is none, which changes no pixel."""
    try:
        value = list(item.integers("RecommendedDisplayCIELabValue"))
        red, green, blue = CIELabColor.from_dicom_value(value).to_rgb(clip=True)
    except (TypeError, ValueError):
        return None
    return int(red), int(green), int(blue)
