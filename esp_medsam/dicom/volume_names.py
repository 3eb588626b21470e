"""Name volumes without anything that identifies a patient or a time of day."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence

from pydicom.datadict import dictionary_VR, tag_for_keyword

from esp_medsam.dicom.volume import DicomSlice


Split = tuple[tuple[str, str], ...]
"""Attribute keyword and value of each attribute that a volume was told by from its series."""

LOCALIZER, NO_VALUE = "LOCALIZER", "none"
"""The one value of Image Type that is told; and what a name says where no value is stated."""

_NUMBERS = ("DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV")
"""Value representations of numbers, which are told as they are."""

_LONGEST = 64
"""Characters that a value may take of a file name; longer ones end in their hash."""


def distinguishing_values(volumes: Sequence[tuple[Split, Sequence[DicomSlice]]]) -> list[Split]:
    """Return, for each volume of a series, what it was told by in words that tell no more.

    Numbers stay, where an attribute holds nothing else. Of texts, times of day and all else their
    rank is told, from 1, among the values in the series: a kernel, or a time, is written by people
    and scanners who write names too.

    Args:
        volumes: What each was told by, and its slices.
    """
    slices = [part for _, group in volumes for part in group]
    keywords = {keyword for split, _ in volumes for keyword, _ in split}
    stated = {
        keyword: sorted({dict(part.dimensions).get(keyword, "") for part in slices}, key=natural)
        for keyword in keywords
    }
    return [
        tuple((keyword, _words_of(keyword, value, stated[keyword])) for keyword, value in split)
        for split, _ in volumes
    ]


def _words_of(keyword: str, value: str, stated: Sequence[str]) -> str:
    if not value:
        return NO_VALUE
    others = [other for other in stated if other]
    if value not in others or value == LOCALIZER:
        return value  # given here, not by a file
    if all(_is_numbers(keyword, other) for other in others):
        return value
    return str(others.index(value) + 1)


def _is_numbers(keyword: str, value: str) -> bool:
    tag = tag_for_keyword(keyword)
    if tag is None or dictionary_VR(tag) not in _NUMBERS:
        return False
    return all(_finite_number(part) is not None for part in value.split("\\"))


def name_of(series_uid: str, split: Split) -> str:
    """Return the name of a volume: its series, and what it was told by."""
    return "_".join([series_uid, *(f"{keyword}-{safe_name(value)}" for keyword, value in split)])


def safe_name(value: str) -> str:
    """Return ``value`` as it may stand in a file name: few characters, and not many of them."""
    text = re.sub(r"[^0-9A-Za-z.-]+", "_", value) or NO_VALUE
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 9]}-{hashlib.sha256(value.encode()).hexdigest()[:8]}"


def natural(value: str) -> tuple[float, list[tuple[int, str]], str]:
    """Sort numbers as numbers, before text, and numbers in texts likewise."""
    number = _finite_number(value)
    parts = re.findall(r"(\d+)|(\D+)", value)
    texts = [(int(digits or -1), text) for digits, text in parts]
    return (math.inf, texts, value) if number is None else (number, [], value)


def _finite_number(text: str) -> float | None:
    """Return a finite number; None where a text is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
