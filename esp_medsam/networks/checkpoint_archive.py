"""Check zip archives as written by ``torch.save`` before torch loads them.

With ``weights_only``, torch runs no code from a file. But it spends the time and memory that a
file demands (packed zeros, 200,000 names, a pickle that nests until the process dies), and
ignores checksums.
"""

from __future__ import annotations

import os
import pickletools
import re
import struct
import zipfile
from collections.abc import Sequence
from typing import Any, BinaryIO


_MOST_ENTRIES = 2**13
"""Most files in an archive, one per tensor; training keeps up to three per parameter."""

_MOST_PICKLED = 2**20
_MOST_STEPS = 2**18
"""Most bytes and steps of the pickle that names the tensors: about 150 and 30 per tensor."""

_MOST_NESTED = 1000
"""Most values in a tuple, counting all levels; a tuple that builds a tensor has 20."""

_GLOBALS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor_v2|parameter)|torch \w+Storage"
)
"""Names that a pickle of tensors uses."""

_STEPS = re.compile(
    "PROTO|STOP|GLOBAL|REDUCE|BUILD|BINPERSID|MARK|NONE|NEWTRUE|NEWFALSE|BININT[12]?|LONG1|BINFLOAT"
    "|BINUNICODE|SHORT_BINSTRING|(EMPTY_)?TUPLE|TUPLE[123]|EMPTY_LIST|APPENDS?|EMPTY_DICT|SETITEMS?"
    "|(LONG_)?BIN(GET|PUT)"
)
"""Pickle steps that torch uses, except those that create sets and other objects."""

_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors raised when reading an archive or pickle that contradicts itself."""

_END, _END_64, _LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"


class NotPlainError(Exception):
    """An archive is damaged or holds something other than tensors; the text says how."""


def check_archive(file: BinaryIO) -> None:
    """Refuse anything but a complete archive of tensors and plain values, stored uncompressed.

    Args:
        file: The archive; rewound to its beginning.

    Raises:
        NotPlainError: If it is something else, is damaged, or holds more than any network needs.
    """
    size = file.seek(0, os.SEEK_END)
    _check_end(file, size)
    try:
        with zipfile.ZipFile(file) as archive:
            pickled = _check_entries(archive.infolist(), size)
            damaged = archive.testzip()
            if damaged is not None:
                msg = f"the checksum of its {damaged[:80]} is wrong. Copy it again"
                raise NotPlainError(msg)
            _check_pickle(archive.read(pickled))
    except _DAMAGE as error:
        msg = "it is damaged or cut short. Copy it again"
        raise NotPlainError(msg) from error
    file.seek(0)


def _check_end(file: BinaryIO, size: int) -> None:
    """Refuse a file without an archive's end, or with a list of entries that takes long to read."""
    file.seek(0)
    if file.read(4) != b"PK\3\4":
        msg = (
            "it is not a zip archive, as torch writes since 1.6. If you trust an older file, "
            "load it and save it again"
        )
        raise NotPlainError(msg)
    file.seek(max(0, size - 98))
    tail = file.read().rjust(98, b"\0")
    last, locator, last_64 = tail[-22:], tail[-42:-22], tail[-98:-42]
    if not last.startswith(_END):
        msg = "it is cut short, or has something after its end. Copy it again"
        raise NotPlainError(msg)
    entries, length, start = struct.unpack("<HII", last[10:20])
    end, is_found = size - 22, True
    if locator.startswith(_LOCATOR_64):  # Python and torch must find the same entries
        entries, length, start = struct.unpack("<QQQ", last_64[32:56])
        end = size - 98
        is_found = last_64.startswith(_END_64) and locator[8:16] == struct.pack("<q", end)
    if start + length != end or not is_found:
        msg = "it is damaged. Copy it again"
        raise NotPlainError(msg)
    if entries > _MOST_ENTRIES or length > 2**8 * _MOST_ENTRIES:
        msg = f"it holds {entries:,} files, more than the {_MOST_ENTRIES:,} that any network needs"
        raise NotPlainError(msg)


def _check_entries(entries: Sequence[zipfile.ZipInfo], size: int) -> zipfile.ZipInfo:
    """Refuse entries that torch would not write; return the entry of the pickle."""
    root = entries[0].filename.partition("/")[0] if entries else ""
    names = {entry.filename.casefold() for entry in entries}
    for entry in entries:
        is_stored = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1
        if not is_stored or entry.file_size != entry.compress_size:
            msg = f"its {entry.filename[:80]} is compressed, but torch stores tensors uncompressed"
            raise NotPlainError(msg)
        if not entry.filename.startswith(f"{root}/") or re.search(r"\.\.|\\", entry.filename):
            msg = f"its {entry.filename[:80]} has a name that torch does not use"
            raise NotPlainError(msg)
    if len(names) < len(entries) or sum(entry.file_size for entry in entries) > size:
        msg = "two of its files have the same name, or the same place"
        raise NotPlainError(msg)
    pickled = next((e for e in entries if e.filename == f"{root}/data.pkl"), None)
    if pickled is None or pickled.file_size > _MOST_PICKLED:
        msg = "it has no list of tensors, or one that is longer than any network needs"
        raise NotPlainError(msg)
    return pickled


def _check_pickle(pickled: bytes) -> None:
    """Refuse a pickle that names more than tensors, or nests tuples.

    Hashing a key visits every value in a tuple, repeated values each time. So values are counted
    here on a stack like the unpickler's, without creating any.
    """
    stack: list[int | None] = []  # None is a mark
    kept: dict[object, int | None] = {}
    for count, (step, argument, _) in enumerate(pickletools.genops(pickled)):
        named = str(argument) if step.name == "GLOBAL" else None
        if not _STEPS.fullmatch(step.name) or not (named is None or _GLOBALS.fullmatch(named)):
            msg = f"it holds more than tensors: {(named or step.name)[:80]}"
            raise NotPlainError(msg)
        taken = _pop(stack, step)
        nested: int | None = None if step.name == "MARK" else 1
        if step.name.startswith("TUPLE"):
            nested = 1 + sum(taken)
        elif step.name.endswith("GET"):
            nested = kept[argument]
        elif step.name.endswith("PUT"):
            kept[argument] = stack[-1]
        if count > _MOST_STEPS or (nested or 0) > _MOST_NESTED:
            msg = "its list of tensors is longer or deeper than any network needs"
            raise NotPlainError(msg)
        stack += [nested] * len(step.stack_after)


def _pop(stack: list[Any], step: pickletools.OpcodeInfo) -> list[Any]:
    """Pop the values that a step takes, or those above the mark, and return them."""
    count, above = len(step.stack_before), []
    if pickletools.markobject in step.stack_before:
        count = step.stack_before.index(pickletools.markobject)
        while (value := stack.pop()) is not None:
            above.append(value)
    below = [stack.pop() for _ in range(count)]
    return above or below
