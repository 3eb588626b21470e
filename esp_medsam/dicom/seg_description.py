"""The segments of a segmentation object that others wrote: what each says it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from highdicom.color import CIELabColor
from pydicom import Dataset

from esp_medsam.errors import CorruptFileError, one_line
from esp_medsam.modality import Code


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


def read_segments(dataset: Dataset, path: str) -> tuple[SegSegment, ...]:
    """Return the segments of an object, by number; value 0 of a labelmap is no segment.

    Args:
        dataset: The object. What pydicom raises of damaged values is passed on.
        path: Its file, for messages.

    Raises:
        CorruptFileError: If it describes none, one without a number, or one number twice.
    """
    items = dataset.get("SegmentSequence") or ()
    segments: dict[int, SegSegment] = {}
    for item in items:
        number = item.get("SegmentNumber")
        if not isinstance(number, int) or number in segments:
            got = "none" if number is None else "one twice"
            msg = f"Segments of {path} must have numbers of their own (0062,0004); got {got}."
            raise CorruptFileError(msg)
        segments[int(number)] = _segment(item, int(number))
    if not segments:
        msg = f"{path} must describe its segments (0062,0002); it describes none."
        raise CorruptFileError(msg)
    return tuple(segments[number] for number in sorted(segments) if number != 0)


def _segment(item: Dataset, number: int) -> SegSegment:
    types = _codes(item, "SegmentedPropertyTypeCodeSequence")
    categories = _codes(item, "SegmentedPropertyCategoryCodeSequence")
    nested = item.get("SegmentedPropertyTypeCodeSequence") or [Dataset()]
    modifiers = _codes(nested[0], "SegmentedPropertyTypeModifierCodeSequence")
    meaning = types[0].meaning if types else ""
    return SegSegment(
        number=number,
        label=_text(item, "SegmentLabel") or meaning or f"segment {number}",
        category=categories[0] if categories else None,
        type=types[0] if types else None,
        modifiers=modifiers,
        anatomic_regions=_codes(item, "AnatomicRegionSequence"),
        algorithm_type=_text(item, "SegmentAlgorithmType"),
        algorithm_name=_text(item, "SegmentAlgorithmName"),
        tracking_id=_text(item, "TrackingID"),
        tracking_uid=_text(item, "TrackingUID"),
        color=_color(item.get("RecommendedDisplayCIELabValue")),
    )


def _codes(item: Dataset, keyword: str) -> tuple[Code, ...]:
    """Return the codes of a sequence, however long their values are."""
    found = []
    for code in item.get(keyword) or ():
        values = (_text(code, f"{kind}CodeValue") for kind in ("", "Long", "URN"))
        value = next((value for value in values if value), "")
        if value:
            scheme = _text(code, "CodingSchemeDesignator")
            found.append(Code(value, scheme, _text(code, "CodeMeaning")))
    return tuple(found)


def _text(item: Dataset, keyword: str) -> str:
    value = item.get(keyword)
    return "" if value is None else one_line(str(value).strip(" \0"))[:_LONGEST]


def _color(value: Any) -> tuple[int, int, int] | None:
    """Return RGB of a CIELab value; None where it is none, which changes no pixel."""
    try:
        red, green, blue = CIELabColor.from_dicom_value(list(value)).to_rgb(clip=True)
    except (TypeError, ValueError):
        return None
    return int(red), int(green), int(blue)
