"""Name volumes without anything that identifies a patient or a time of day."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence

from pydicom.datadict import dictionary_VR, tag_for_keyword

from esp_medsam.dicom.volume import DicomSlice


Split = tuple[tuple[str, str], ...]
"""Keyword and value of each attribute that distinguishes a volume from the rest of its series."""

LOCALIZER, NO_VALUE = "LOCALIZER", "none"
"""The only value of Image Type shown in names; the word for a missing value."""

_NUMBERS = ("DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV")
"""Value representations of numbers, which are shown unchanged."""

_LONGEST = 64
"""Most characters of a value in a file name; longer values end in their hash."""


def distinguishing_values(volumes: Sequence[tuple[Split, Sequence[DicomSlice]]]) -> list[Split]:
    """Return the distinguishing values of each volume of a series, without private text.

    Numbers stay if an attribute holds only numbers. Texts, times of day and all else become their
    rank, from 1, among the values in the series: the people and scanners that write a kernel or a
    time also write names.

    Args:
        volumes: The distinguishing attributes and the slices of each volume.
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
        return value  # set by this package, not by a file
    if all(_is_numbers(keyword, other) for other in others):
        return value
    return str(others.index(value) + 1)


def _is_numbers(keyword: str, value: str) -> bool:
    tag = tag_for_keyword(keyword)
    if tag is None or dictionary_VR(tag) not in _NUMBERS:
        return False
    return all(_finite_number(part) is not None for part in value.split("\\"))


def name_of(series_uid: str, split: Split) -> str:
    """Return the name of a volume: its series, and its distinguishing values."""
    return "_".join([series_uid, *(f"{keyword}-{safe_name(value)}" for keyword, value in split)])


def safe_name(value: str) -> str:
    """Return ``value`` in a form for file names: a limited character set and length."""
    text = re.sub(r"[^0-9A-Za-z.-]+", "_", value) or NO_VALUE
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 9]}-{hashlib.sha256(value.encode()).hexdigest()[:8]}"


def natural(value: str) -> tuple[float, list[tuple[int, str]], str]:
    """Return a sort key that puts numbers in order before text, and orders numbers within text."""
    number = _finite_number(value)
    parts = re.findall(r"(\d+)|(\D+)", value)
    texts = [(int(digits or -1), text) for digits, text in parts]
    return (math.inf, texts, value) if number is None else (number, [], value)


def _finite_number(text: str) -> float | None:
    """Return text as a finite number, or None if it is not one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
