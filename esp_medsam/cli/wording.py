"""Adapt the library's messages to the command line: its argument `frame` is --frame there."""

from __future__ import annotations

import re
from collections.abc import Iterable

from esp_medsam.errors import one_line


_ARGUMENT = re.compile(r"(?<![\w/.`])`([a-z][a-z0-9_]*)`(?!\.?\w)")

_known: set[str] = set()
"""Arguments that are options of the running command."""


def set_options(names: Iterable[str]) -> None:
    """Set the options of the running command; messages name other arguments without dashes."""
    _known.clear()
    _known.update(names)


def as_options(text: str) -> str:
    """Return a text with the arguments that it names in backticks written as options."""
    return _ARGUMENT.sub(lambda found: f"{'--' * (found[1] in _known)}{found[1]}", text)


def option_line(text: str) -> str:
    """Return a text in one line, with its arguments written as options."""
    return as_options(one_line(text))
