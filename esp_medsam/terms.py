"""Coded terms of DICOM and SNOMED CT, from the dictionaries in pydicom."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from pydicom.sr.codedict import codes

from esp_medsam.modality import Code


_LONGEST_MEANING = 64
"""Most characters that DICOM allows in a code meaning."""

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
"""Terms of Body Part Examined (PS3.16, annex L) that are not in the context groups."""


def body_part(value: str) -> str | None:
    """Return a term of Body Part Examined (0018,0015) in lower case; None if it is not a term.

    Some people write anything there, even names, so a value outside the dictionary is dropped.

    Args:
        value: The value in the file.
    """
    compact = "".join(value.upper().split()).replace("_", "")
    return compact.lower() if compact in _regions() else None


@cache
def _regions() -> frozenset[str]:
    named = {keyword.upper() for group in _REGIONS for keyword in getattr(codes, group).dir()}
    return _SHORT_REGIONS | named


@dataclass(frozen=True)
class Term:
    """A coded term, and the fields of a target that it may be used for.

    Attributes:
        code: Its code.
        uses: Any of ``category`` (CID 7150), ``type`` (CID 7151) and ``anatomic_region``; empty if
            DICOM suggests it for none of them, which does not forbid its use.
    """

    code: Code
    uses: tuple[str, ...]


def find_terms(name: str) -> list[Term]:
    """Return the SNOMED CT terms used by DICOM that a name may mean.

    Each word of the name begins a word of the meaning. A meaning equal to the name comes first,
    then meanings that DICOM suggests for targets, shorter ones before longer ones.

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
