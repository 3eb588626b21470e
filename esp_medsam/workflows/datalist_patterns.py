"""Match images and masks by path patterns."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import NamedTuple

from esp_medsam.errors import EmptyInputError, OptionError, listed


CASE = "{case}"
"""Stands in a pattern for what tells one case from another."""

_VALUES = re.compile(r"#(\d{1,9}(?:,\d{1,9})*)$")
"""Ends the path of a label map."""

_TOKENS = re.compile(r"(\*\*/|\*|\?|\{case\})")


class Named(NamedTuple):
    """A path or a pattern, and the values of a label map behind it.

    Attributes:
        text: The path, or the pattern.
        values: The values; None of a mask of its own.
    """

    text: str
    values: tuple[int, ...] | None


def split_values(text: str) -> Named:
    """Return ``path#1,2`` taken apart; what is no number behind the last ``#`` is of the path."""
    found = _VALUES.search(text)
    if found is None:
        return Named(text, None)
    return Named(text[: found.start()], tuple(int(value) for value in found[1].split(",")))


def files_by_case(pattern: str, root: Path, option: str) -> dict[str, Path]:
    """Return what a pattern matches, by case, in the order of the names.

    Args:
        pattern: A path with ``{case}`` where cases differ, at least once; ``*`` and ``?`` stand for
            anything within a name, ``**/`` for any folders. Without ``{case}`` the first ``*`` is
            the case.
        root: Folder that it begins in, unless it is absolute.
        option: What it is called, for messages.

    Raises:
        OptionError: If it tells no cases apart, or matches two files of one case.
        EmptyInputError: If it matches nothing.
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
    # Of Path.glob neither absolute patterns nor escaped names would do.
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
    """Return the pattern as a regular expression; a case that stands twice must be the same."""
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
    """Return the patient of each path, as a regular expression finds it.

    Args:
        pattern: The expression; its first group is the patient, or all of the match without one.
        paths: Paths of images, with ``/``.

    Raises:
        OptionError: If it is no expression, or does not match a path.
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
