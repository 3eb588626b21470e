"""Read untrusted YAML and JSON as plain data, within limits.

Only text, numbers, lists and mappings come out: no tag creates an object, a few aliases cannot
expand to millions of values, and nothing is nested so deeply that reading it overflows the stack.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from esp_medsam.errors import quoted
from esp_medsam.regular_file import open_regular


MOST_BYTES = 2**19
"""Limit for a config or table; those shipped have about 6 kB, a table of 1,000 targets 350 kB."""

OWN_BYTES = 2**24
"""Limit for a JSON file that this package writes."""

DEEPEST = 32
"""Limit on the nesting of mappings and lists."""

MOST_VALUES = 2**18
"""Limit on the values of a file, with YAML aliases expanded: a few lines could mean millions."""

_BITS = 64
"""Limit for a whole number: Python itself cannot print one of several thousand digits."""

LONGEST = 4096
"""Limit on the characters of a value: YAML reads multi-part numbers in quadratic time."""


def read_plain(path: Path) -> Any:
    """Return the content of a YAML or JSON file; JSON is recognized by its suffix.

    Raises:
        ValueError: If the file is neither, repeats a key, or breaks a limit; the text states what
            was found, to follow "got".
        OSError: If the file cannot be read.
    """
    return read_json(path) if path.suffix.lower() == ".json" else read_yaml(path)


def read_json(path: Path, *, most_bytes: int = MOST_BYTES, most_values: int = MOST_VALUES) -> Any:
    """Return the content of a JSON file of limited size; errors as for :func:`read_plain`."""
    text = _read(path, most_bytes)
    # An overestimate if texts contain these characters, never an underestimate.
    if text.count(",") + text.count("[") + text.count("{") > most_values:
        msg = f"more than {most_values:,} values"
        raise ValueError(msg)
    return _json(text)


def read_own_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file that this package writes, even to folders of others.

    Raises:
        ValueError: If the file holds something else, or is far larger than any of ours.
        OSError: If the file cannot be read, or is not a regular file.
    """
    content = read_json(path, most_bytes=OWN_BYTES)
    if not isinstance(content, dict):
        msg = f"{quoted(content)} in place of an object"
        raise ValueError(msg)
    return content


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file; errors as for :func:`read_plain`."""
    return _yaml(_read(path, MOST_BYTES))


def _read(path: Path, most_bytes: int) -> str:
    with open_regular(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        msg = f"more than {most_bytes:,} bytes"
        raise ValueError(msg)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"text that is not UTF-8, from byte {error.start} on"
        raise ValueError(msg) from error


def _json(text: str) -> Any:
    try:
        content = json.loads(text, object_pairs_hook=_unique, parse_int=_whole_number)
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    except json.JSONDecodeError as error:
        msg = f"invalid JSON at line {error.lineno}, column {error.colno} ({error.msg})"
        raise ValueError(msg) from error
    _check_depth(content)
    return content


def _whole_number(digits: str) -> int:
    number = int(digits) if len(digits) <= _BITS else 2**_BITS
    if number.bit_length() > _BITS:
        raise ValueError(_too_large())
    return number


def _check_depth(content: object) -> None:
    level: list[object] = [content]
    for _ in range(DEEPEST):
        within: list[object] = []
        for value in level:
            if isinstance(value, dict):
                within += value.values()
            elif isinstance(value, list):
                within += value
        if not within:
            return
        level = within
    if any(isinstance(value, dict | list) for value in level):
        raise ValueError(_too_deep())


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(_repeated_key(key))
        content[key] = value
    return content


def _yaml(text: str) -> Any:
    try:
        _check_events(text)
        return _built(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        msg = f"invalid YAML, or more than plain values{where} ({problem})"
        raise ValueError(msg) from error


def _built(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except (LookupError, AttributeError, TypeError, ValueError, OverflowError) as error:
        msg = "a value that does not match its tag"  # PyYAML fails on such values
        raise ValueError(msg) from error


class _UniqueKeyLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # chosen at run time
    """PyYAML's safe loader, which by itself would let a repeated key replace the first."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key in seen:
                problem = (
                    _repeated_key(key) if isinstance(key, Hashable) else "a key of many values"
                )
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        content: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return content

    def construct_yaml_int(self, node: Any) -> int:
        number: int = super().construct_yaml_int(node)
        if number.bit_length() > _BITS:
            raise yaml.constructor.ConstructorError(None, None, _too_large(), node.start_mark)
        return number


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:int", _UniqueKeyLoader.construct_yaml_int)

_MERGE = "tag:yaml.org,2002:merge"
"""Tag of the key ``<<``, which merges in the keys of another mapping."""


class _Extent(NamedTuple):
    """Number of values and depth of a YAML node with its aliases expanded."""

    values: int = 1
    depth: int = 0


def _check_events(text: str) -> None:
    """Refuse YAML whose values would be expensive to build, judging by its events alone."""
    known: dict[str, _Extent] = {}
    above: list[tuple[str | None, _Extent]] = [(None, _Extent())]
    for event in yaml.parse(text, Loader=_UniqueKeyLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            above.append((event.anchor, _Extent()))
            known.pop(event.anchor or "", None)
            done, anchor = _Extent(0, 0), None
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, (values, depth) = above.pop()
            done = _Extent(values, depth + 1)
        elif isinstance(event, yaml.ScalarEvent):
            done, anchor = _Extent(), event.anchor
            if len(event.value) > LONGEST:
                msg = f"a value of more than {LONGEST:,} characters"
                raise ValueError(msg)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in known:
                msg = f"an alias, *{event.anchor}, of an unknown or incomplete value"
                raise ValueError(msg)
            done, anchor = known[event.anchor], None
        else:
            continue
        if anchor is not None:
            known[anchor] = done
        holder, (values, depth) = above[-1]
        above[-1] = holder, _Extent(values + done.values, max(depth, done.depth))
        if len(above) - 1 + done.depth > DEEPEST:
            raise ValueError(_too_deep())
        if above[-1][1].values > MOST_VALUES:
            msg = f"more than {MOST_VALUES:,} values once its aliases are written out"
            raise ValueError(msg)


def _too_deep() -> str:
    return f"more than {DEEPEST} nested lists and mappings"


def _too_large() -> str:
    return f"a whole number of more than {_BITS} bits"


def _repeated_key(key: object) -> str:
    return f"the key {quoted(key)} twice"
