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
"""Attributes of segments that are read."""

_LONGEST = 256
"""Most characters of a text to keep: four times what a label may have."""


@dataclass(frozen=True, kw_only=True)
class SegSegment:
    """The description of one segment in a segmentation object.

    Attributes:
        number: Segment Number, which is also its value in a labelmap.
        label: Segment Label; if missing, the meaning of its type, or its number.
        category: Segmented Property Category; None if missing.
        type: Segmented Property Type; None if missing.
        modifiers: Modifiers of the type, such as the side.
        anatomic_regions: Codes of its anatomic regions.
        algorithm_type: ``AUTOMATIC``, ``SEMIAUTOMATIC`` or ``MANUAL``; empty if missing.
        algorithm_name: Algorithm that made it; empty if missing.
        tracking_id: Identifier that tracks it from study to study; empty if missing.
        tracking_uid: Such an identifier as a UID; empty if missing.
        color: Recommended RGB display color; None if missing.
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
    """Return the segments of an object, by number, without the background 0 of a labelmap.

    Raises:
        CorruptFileError: If no segment is described, or a number is missing or repeated.
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
    """Return the codes of a sequence, including those with long or URN values.

    Args:
        item: Elements that hold the sequence.
        keyword: Keyword of the sequence.
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
    """Return a text on one line, cut to 256 characters."""
    return one_line(item.decoded(keyword, characters))[:_LONGEST]


def _color(item: Elements) -> tuple[int, int, int] | None:
    """Return the display color as RGB, or None if it is invalid, which affects no pixel."""
    try:
        value = list(item.integers("RecommendedDisplayCIELabValue"))
        red, green, blue = CIELabColor.from_dicom_value(value).to_rgb(clip=True)
    except (TypeError, ValueError):
        return None
    return int(red), int(green), int(blue)
