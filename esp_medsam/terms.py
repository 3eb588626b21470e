"""Coded terms of DICOM and SNOMED CT, as pydicom's dictionaries have them."""

from __future__ import annotations

from functools import cache

from pydicom.sr.codedict import codes


_REGIONS = ("cid4", "cid4009", "cid4030", "cid4031", "cid4040")
"""Context groups of anatomic regions."""

_SHORT_REGIONS = frozenset(
    {
        "ABDOMENPELVIS",
        "ANKLE",
        "ARM",
        "CHEST",
        "CHESTABDOMEN",
        "CHESTABDPELVIS",
        "CSPINE",
        "CTSPINE",
        "ELBOW",
        "HEADNECK",
        "IAC",
        "JAW",
        "LEG",
        "LSPINE",
        "LSSPINE",
        "NECKCHEST",
        "NECKCHESTABDOMEN",
        "NECKCHESTABDPELV",
        "ORBIT",
        "SELLA",
        "SINUS",
        "SSPINE",
        "TLSPINE",
        "TMJ",
        "TSPINE",
        "WHOLEBODY",
        "WRIST",
    }
)
"""Terms of Body Part Examined (PS3.16, annex L) that are no names of the context groups."""


def body_part(value: str) -> str | None:
    """Return a term of Body Part Examined (0018,0015) in small letters; None of what is no term.

    Some write anything there, names included: what is not in a dictionary is never handed on.

    Args:
        value: As the file states it.
    """
    compact = "".join(value.upper().split()).replace("_", "")
    return compact.lower() if compact in _regions() else None


@cache
def _regions() -> frozenset[str]:
    named = {keyword.upper() for group in _REGIONS for keyword in getattr(codes, group).dir()}
    return _SHORT_REGIONS | named
