"""Word messages of the library for the command line: what it calls `frame` is --frame there."""

from __future__ import annotations

import re

from esp_medsam.errors import one_line


_ARGUMENT = re.compile(r"`([a-z][a-z0-9_]*)`")


def as_options(text: str) -> str:
    """Return a text in which the arguments that it names in backticks are options."""
    return _ARGUMENT.sub(r"--\1", text)


def option_line(text: str) -> str:
    """Return such a text in one line."""
    return as_options(one_line(text))
