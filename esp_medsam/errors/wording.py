"""What messages are worded with: short, in one line, whatever they quote."""

from __future__ import annotations

from collections.abc import Sequence


def one_line(text: str) -> str:
    """Escape what would break a line: a file name may hold a newline or a terminal code."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def listed(parts: Sequence[str], separator: str = ", ") -> str:
    """Return what a message lists: the first of many, and how many more there are."""
    more = f"{separator}and {len(parts) - _LISTED} more" if len(parts) > _LISTED else ""
    return separator.join(parts[:_LISTED]) + more


_LISTED = 20
"""Parts that a message lists; it must stay a line that can be read."""


def quoted(value: object) -> str:
    """Return a value as a message quotes it: a hostile one may be a megabyte long."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python prints
        return "a value too long to show"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_SHOWN = 60
"""Characters of a value that a message quotes."""
