"""Coded terms of DICOM and SNOMED CT, from the dictionaries in pydicom."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from pydicom.sr.codedict import codes

from esp_medsam.modality import Code


_LONGEST_MEANING = 64
"""Characters of a code meaning that DICOM allows."""

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


@dataclass(frozen=True)
class Term:
    """A coded term, and what of a target it may be.

    Attributes:
        code: Its code.
        uses: Of ``category`` (CID 7150), ``type`` (CID 7151) and ``anatomic_region``; empty where
            DICOM suggests it for none of them, which forbids nothing.
    """

    code: Code
    uses: tuple[str, ...]


def find_terms(name: str) -> list[Term]:
    """Return the terms of SNOMED CT, as DICOM uses it, that a name may mean.

    Each word of the name begins a word of the meaning. The meaning that is the name itself comes
    first, then those that DICOM suggests for targets, the shorter before the longer.

    Args:
        name: One or more words, in any case.
    """
    words = name.lower().split()
    found = []
    for keyword in codes.SCT.dir():
        entry = getattr(codes.SCT, keyword)
        meaning = str(entry.meaning)
        if len(meaning) <= _LONGEST_MEANING and _means(meaning, words):
            code = Code(str(entry.value), str(entry.scheme_designator), meaning)
            uses = tuple(use for use, values in _uses().items() if code.value in values)
            found.append(Term(code, uses))
    exact = " ".join(words)
    return sorted(
        found,
        key=lambda term: (
            term.code.meaning.lower() != exact,
            not term.uses,
            len(term.code.meaning),
            term.code.meaning,
        ),
    )


def _means(meaning: str, words: Sequence[str]) -> bool:
    theirs = re.findall(r"\w+", meaning.lower())
    return bool(words) and all(any(their.startswith(word) for their in theirs) for word in words)


@cache
def _uses() -> dict[str, frozenset[str]]:
    """Return the values of the codes that DICOM suggests for each use."""
    groups = {"category": ("cid7150",), "type": ("cid7151",), "anatomic_region": _REGIONS}
    return {
        use: frozenset(
            str(getattr(getattr(codes, name), keyword).value)
            for name in names
            for keyword in getattr(codes, name).dir()
        )
        for use, names in groups.items()
    }
