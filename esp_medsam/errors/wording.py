"""Helpers that keep messages short and in one line, whatever they quote."""

from __future__ import annotations

from collections.abc import Sequence


def one_line(text: str) -> str:
    """Escape control characters: a file name may hold a newline or a terminal code."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def listed(parts: Sequence[str], separator: str = ", ") -> str:
    """Return a list for a message: the first items, and how many more there are."""
    more = f"{separator}and {len(parts) - _LISTED} more" if len(parts) > _LISTED else ""
    return separator.join(parts[:_LISTED]) + more


_LISTED = 20
"""Most items that a message lists, so that it stays readable."""


def quoted(value: object) -> str:
    """Return a value as a message quotes it, cut because it may be megabytes long."""
    try:
        text = repr(value)
    except ValueError:  # an integer with more digits than Python prints
        return "a value too long to show"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_SHOWN = 60
"""Most characters of a value that a message quotes."""
