"""What each code means and what to do about it, as the exceptions' docstrings say."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from esp_medsam.errors import kinds


class Remedy(NamedTuple):
    """What a code stands for.

    Attributes:
        kind: The exception.
        meaning: What went wrong, in a sentence, with code in backticks.
        remedy: What to do, likewise.
    """

    kind: type[kinds.EspMedSamError]
    meaning: str
    remedy: str


@cache
def remedies() -> Mapping[str, Remedy]:
    """Return meaning and remedy of each code, in the order of the codes.

    Both are empty where Python runs without docstrings.
    """
    base = kinds.EspMedSamError
    found = [one for one in vars(kinds).values() if isinstance(one, type) and issubclass(one, base)]
    told = {}
    for kind in sorted(found, key=lambda kind: kind.code):
        if kind is not base:
            paragraphs = (kind.__doc__ or "\n\n").replace("``", "`").split("\n\n")
            meaning, remedy = (" ".join(text.split()) for text in (*paragraphs, "")[:2])
            told[kind.code] = Remedy(kind, meaning, remedy)
    return told
