"""Word messages of the library for the command line: what it calls `frame` is --frame there."""

from __future__ import annotations

import re
from collections.abc import Iterable

from esp_medsam.errors import one_line


_ARGUMENT = re.compile(r"(?<![\w/.`])`([a-z][a-z0-9_]*)`(?!\.?\w)")

_known: set[str] = set()
"""Arguments that the command at work has as options."""


def set_options(names: Iterable[str]) -> None:
    """State what the command at work has as options: what else a message names stays bare."""
    _known.clear()
    _known.update(names)


def as_options(text: str) -> str:
    """Return a text in which the arguments that it names in backticks are options."""
    return _ARGUMENT.sub(lambda found: f"{'--' * (found[1] in _known)}{found[1]}", text)


def option_line(text: str) -> str:
    """Return such a text in one line."""
    return as_options(one_line(text))
