"""DICOMweb queries and responses, with every UID checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from pydicom.datadict import tag_for_keyword

from esp_medsam.errors import OptionError, PacsError, one_line


_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID = 64
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_MODALITY = re.compile(r"[A-Z0-9]{2,16}")

MODALITY, COUNT = "00080060", "00201209"
STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"
"""Tags of the attributes that are read from an answer."""

Answer = Mapping[str, Any]
"""One search result as DICOM JSON: from tag to ``vr`` and ``Value``."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """A series that a PACS lists.

    Attributes:
        study_uid: Study Instance UID.
        series_uid: Series Instance UID.
        dicom_modality: Modality (0008,0060); empty if the PACS does not state it.
        count: Number of instances that the PACS states; None if it does not.
    """

    study_uid: str
    series_uid: str
    dicom_modality: str = ""
    count: int | None = None


def is_uid(value: object) -> bool:
    """Whether a value is a UID: only digits and dots, so that no path or URL leads elsewhere."""
    return (
        isinstance(value, str)
        and len(value) <= _LONGEST_UID
        and value.isascii()
        and _UID.fullmatch(value) is not None
    )


def checked_uid(value: str, option: str) -> str:
    """Return a UID as the user gave it.

    Raises:
        OptionError: If the value is not a UID.
    """
    if not is_uid(value):
        msg = f"{option} must be a UID (digits and dots); got {one_line(value)[:80]!r}."
        raise OptionError(msg)
    return value


def no_uids(count: int, kind: str) -> PacsError:
    """Return the error for results without a valid UID; the invalid values are not repeated."""
    msg = (
        f"The PACS must identify {kind} by UIDs (digits and dots); for {count} it states "
        "something else."
    )
    return PacsError(msg)


def value_of(answer: Answer, tag: str) -> object:
    """Return the first value of an attribute; None if it has no value."""
    element = answer.get(tag)
    values = element.get("Value") if isinstance(element, Mapping) else None
    return values[0] if isinstance(values, list) and values else None


def series_of(answer: Answer, study_uid: str) -> Series:
    """Return the series in a search result that has a valid series UID.

    Raises:
        PacsError: If the series belongs to another study.
    """
    # Results of a search within a study may omit the study.
    if value_of(answer, STUDY) not in (None, study_uid):
        msg = f"The PACS must list series of study {study_uid}; it lists one of another study."
        raise PacsError(msg)
    modality = value_of(answer, MODALITY)
    count = value_of(answer, COUNT)
    return Series(
        study_uid=study_uid,
        series_uid=str(value_of(answer, SERIES)),
        dicom_modality=modality
        if isinstance(modality, str) and _MODALITY.fullmatch(modality)
        else "",
        count=int(count) if isinstance(count, int | str) and str(count).isdecimal() else None,
    )


def read_query(query: str) -> dict[str, str]:
    """Return the filters of a query such as ``ModalitiesInStudy=CT&StudyDate=20260101-20261231``.

    Raises:
        OptionError: If it is empty, names an unknown DICOM attribute, or one attribute twice.
    """
    filters: dict[str, str] = {}
    try:
        # Separator and encoding as in a URL; a malformed part is an error, not skipped.
        pairs = parse_qsl(query.removeprefix("?"), strict_parsing=True, keep_blank_values=True)
    except ValueError:
        pairs = []
    for name, value in pairs:
        known = _TAG.fullmatch(name) or tag_for_keyword(name) is not None
        if not known or not value or name in filters:
            msg = (
                "query must name attributes by DICOM keyword or tag, each once and with a value; "
                f"got {one_line(name)[:64]!r}."
            )
            raise OptionError(msg)
        filters[name] = value
    if not filters:
        msg = (
            "query must look like 'ModalitiesInStudy=CT&StudyDate=20260101-20261231'; got "
            "another form."
        )
        raise OptionError(msg)
    return filters
