"""JSON as clients send it: it is stored, so that it must be possible to store and read it."""

from __future__ import annotations

import json
from typing import Any

from esp_medsam.errors import OptionError


MOST_CHARACTERS, MOST_LEVELS = 2**20, 20
"""Limits of what a client sends."""


def object_of(text: str) -> dict[str, Any]:
    """Return the object of a JSON text; empty for no text.

    Raises:
        OptionError: If it is none, or cannot be stored.
    """
    try:
        given = json.loads(text or "{}") if len(text) <= MOST_CHARACTERS else None
    except (ValueError, RecursionError):
        given = None
    return checked_object(given)


def checked_object(given: Any) -> dict[str, Any]:
    """Return an object that can be stored as JSON and read back.

    Raises:
        OptionError: If it is no object, nested too deeply, or has numbers or text that JSON lacks.
    """
    msg = "params must be a JSON object that can be stored; got something else."
    if not isinstance(given, dict) or _levels(given) > MOST_LEVELS:
        raise OptionError(msg)
    try:
        text = json.dumps(given, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError) as error:  # NaN, and characters without their other half
        raise OptionError(msg) from error
    if len(text) > MOST_CHARACTERS:
        raise OptionError(msg)
    return given


def _levels(value: Any) -> int:
    """Return how deeply a value is nested, without going deeper than is allowed."""
    levels, inside = 0, [value]
    while inside and levels <= MOST_LEVELS:
        levels += 1
        parts = [one for one in inside if isinstance(one, dict | list)]
        inside = [
            each for one in parts for each in (one.values() if isinstance(one, dict) else one)
        ]
    return levels
