"""Match images and masks by path patterns."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import NamedTuple

from esp_medsam.errors import EmptyInputError, OptionError, listed


CASE = "{case}"
"""Placeholder in a pattern for the part that differs between cases."""

_VALUES = re.compile(r"#(\d{1,9}(?:,\d{1,9})*)$")
"""Values at the end of a label map's path."""

_TOKENS = re.compile(r"(\*\*/|\*|\?|\{case\})")


class Named(NamedTuple):
    """A path or a pattern, and the label map values that follow it.

    Attributes:
        text: The path, or the pattern.
        values: The values; None for a mask file.
    """

    text: str
    values: tuple[int, ...] | None


def split_values(text: str) -> Named:
    """Return ``path#1,2`` as path and values; ``#`` without numbers is part of the path."""
    found = _VALUES.search(text)
    if found is None:
        return Named(text, None)
    return Named(text[: found.start()], tuple(int(value) for value in found[1].split(",")))


def files_by_case(pattern: str, root: Path, option: str) -> dict[str, Path]:
    """Return the files that a pattern matches, by case, sorted by name.

    Args:
        pattern: A path with at least one ``{case}`` where cases differ; ``*`` and ``?`` match
            anything within a name, ``**/`` any folders. Without ``{case}``, the first ``*`` is the
            case.
        root: Folder that the pattern starts from, unless it is absolute.
        option: Name of the option, for messages.

    Raises:
        OptionError: If the pattern cannot distinguish cases, or matches two files of one case.
        EmptyInputError: If the pattern matches nothing.
    """
    tokens = _TOKENS.split(pattern.replace(os.sep, "/"))
    if CASE not in tokens and "*" in tokens:
        tokens[tokens.index("*")] = CASE
    if CASE not in tokens:
        msg = f"{option} must have {CASE} or * where cases differ; got {pattern}."
        raise OptionError(msg)
    matches = re.compile(_regex(tokens))
    wild = "".join("*" if token == CASE else _literal(token) for token in tokens)
    found: dict[str, Path] = {}
    # Path.glob supports neither absolute patterns nor escaped names.
    for path in sorted(glob.glob(wild, root_dir=root, recursive=True)):  # noqa: PTH207  # see above
        match = matches.fullmatch(path.replace(os.sep, "/"))
        if match is None:
            continue
        case = match["case"]
        if case in found:
            msg = (
                f"{option} must match one file per case; {found[case]} and {path} are both of "
                f"{case}."
            )
            raise OptionError(msg)
        found[case] = root / path
    if not found:
        msg = f"{option} must match files in {root.resolve()}; {pattern} matches none."
        raise EmptyInputError(msg)
    return found


def _literal(token: str) -> str:
    return token if token in ("**/", "*", "?") else glob.escape(token)


def _regex(tokens: list[str]) -> str:
    """Return the pattern as a regular expression; repeated cases must be equal."""
    wild = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    parts, seen = [], False
    for token in tokens:
        if token == CASE:
            parts.append("(?P=case)" if seen else "(?P<case>[^/]+)")
            seen = True
        else:
            parts.append(wild.get(token) or re.escape(token))
    return "".join(parts)


def by_patient(pattern: str, paths: list[str]) -> list[str]:
    """Return the patient of each path, found by a regular expression.

    Args:
        pattern: The expression; its first group, or the whole match without groups, is the patient.
        paths: Paths of images, with ``/``.

    Raises:
        OptionError: If the expression is invalid, or does not match a path.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        msg = f"patient must be a regular expression; got {pattern} ({error})."
        raise OptionError(msg) from error
    matches = [expression.search(path) for path in paths]
    lacking = [path for path, match in zip(paths, matches, strict=True) if match is None]
    if lacking:
        msg = f"patient must match every image; {pattern} does not match {listed(lacking)}."
        raise OptionError(msg)
    return [match[1 if expression.groups else 0] or "" for match in matches if match is not None]
