"""What a JPEG lacks: decoders fill what is missing with gray, and say nothing.

Bytes in, an answer out. Nothing is decoded here; who asks brings a decoder.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from esp_medsam.jpeg_lossless import has_all_samples


MOST_SCANS = 100
"""Scans of a JPEG that is decoded: each is a walk over the whole picture, and takes few bytes.

Encoders write ten.
"""

_START, _END = b"\xff\xd8", b"\xff\xd9"

_MARKER = re.compile(rb"\xff+([\x02-\xcf\xd8-\xfe])")
"""What begins a segment, and ends the data of a scan: a marker, but no restart, and fill bytes."""

_RESTARTS = tuple(bytes((0xFF, 0xD0 + k)) for k in range(8))
_TABLES, _SCAN, _INTERVAL = 0xC4, 0xDA, 0xDD

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15: the others of their row are tables, and an extension."""

_LOSSLESS, _PROGRESSIVE, _ARITHMETIC = (0xC3, 0xCB), (0xC2, 0xCA), range(0xC9, 0xD0)

_MOST_SEGMENTS = 65_536
"""Segments from which on there are too many: a walk must end."""

_ALIKE = 16
"""Samples at the end of a lossless picture that are one value where a decoder filled it."""

_MORE = bytes((73 * k + 165) % 251 for k in range(64))
"""What a decoder is given to go on with: bits of all kinds, and none of a marker."""


@dataclass
class _Walk:
    """What the segments of a JPEG say.

    Attributes:
        kind: Marker of the frame: how it is coded.
        size: Rows and columns.
        factors: Sampling factors of each component, across and down, by its identifier.
        interval: Minimum coded units between two restarts; 0 without restarts.
        missing: Of each component, and of each of its coefficients where it is progressive, how
            many of the lowest bits are still to come; None where nothing came.
        tables: Huffman tables by class and number, as they are stated last.
        scans: How many scans there are.
        last: Header of the last of them.
        has_restarts: Whether all scans have as many restarts as they must.
        start: Where the data of the last scan begin.
        end: Where they end.
    """

    kind: int = 0
    size: tuple[int, int] = (0, 0)
    factors: dict[int, tuple[int, int]] = field(default_factory=dict)
    interval: int = 0
    missing: dict[int, list[int | None]] = field(default_factory=dict)
    tables: dict[int, bytes] = field(default_factory=dict)
    scans: int = 0
    last: bytes = b""
    has_restarts: bool = True
    start: int = 0
    end: int = 0


def count_scans(data: bytes) -> int:
    """Return how many scans a JPEG has; 0 where its segments cannot be followed to one.

    To be asked before it is decoded, see `MOST_SCANS`.
    """
    walk = _walked(data)
    return walk.scans if walk else 0


def is_whole(
    data: bytes, picture: npt.NDArray[Any], decode: Callable[[bytes], npt.NDArray[Any]]
) -> bool:
    """Whether a JPEG has data for every block of its picture.

    One that was cut, and closed with its end mark, decodes without an error: the rest is gray, or
    coarse where it is progressive. So it is seen first whether all scans, and restarts, are there.
    Then it is decoded once more with bytes added to the last scan. A decoder that has all it needs
    passes over them; one that lacks data takes them for it, and gives another picture.

    Of lossless JPEG, whose decoders fill with one value and speak of what was added, samples are
    counted instead where the picture ends in one value. Of arithmetic coding, whose data may
    lawfully end early, scans and restarts are counted alone.

    Args:
        data: The JPEG, from its start mark; what follows its end mark is passed over.
        picture: What ``decode`` made of it.
        decode: The decoder, of pictures of 8 bits, 12 bits or whatever it takes. All that it raises
            but ``MemoryError`` means that it met what was added.

    Returns:
        False where something is missing, or the segments cannot be followed to a picture.

    Reference:
        ISO/IEC 10918-1 B.2, G.1.1 and H.1.
    """
    walk = _walked(data)
    if walk is None or not walk.scans or not walk.has_restarts:
        return False
    if any(bits != 0 for component in walk.missing.values() for bits in component):
        return False
    if walk.kind in _ARITHMETIC:
        return True
    if walk.kind in _LOSSLESS:
        return not _ends_alike(picture) or _has_all_samples(data, walk)
    try:
        again = decode(data[: walk.end] + _MORE + _END)
    except MemoryError:
        raise
    except Exception:  # decoders name no set of errors
        return False
    return np.array_equal(picture, again)


def _ends_alike(picture: npt.NDArray[Any]) -> bool:
    """Whether a picture ends in one value, as where a decoder filled it."""
    end = picture[-1, -_ALIKE:]
    return bool((end == end[-1]).all())


def _has_all_samples(data: bytes, walk: _Walk) -> bool:
    """Whether the last scan of lossless JPEG has a code for every sample."""
    components = _components_of(walk.last)
    tables = [
        walk.tables.get(selector >> 4) for selector in walk.last[2 : 2 + 2 * len(components) : 2]
    ]
    is_sampled = len(set(walk.factors.values())) > 1
    if walk.interval or is_sampled or None in tables:
        return True  # gdcm refuses restarts that are missing; components of many sizes are not used
    count = walk.size[0] * walk.size[1]
    return has_all_samples(data[walk.start : walk.end], [t for t in tables if t], count)


def _walked(data: bytes) -> _Walk | None:
    """Return what the segments say; None where one is cut short, or contradicts another."""
    if not data.startswith(_START):
        return None
    walk = _Walk()
    at = len(_START)
    for _ in range(_MOST_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None or found[1] == _END[1:]:
            return walk
        marker, at = found[1][0], found.end()
        length = int.from_bytes(data[at : at + 2], "big")
        segment = data[at + 2 : at + length]
        at += length
        if length < 2 or at > len(data) or not _took(walk, marker, segment):
            return None
        if marker == _SCAN:
            after = _MARKER.search(data, at)
            end = after.start() if after else len(data)
            restarts = sum(data.count(mark, at, end) for mark in _RESTARTS)
            walk.has_restarts &= restarts >= _restarts_needed(walk, segment)
            walk.last, walk.start, walk.end = segment, at, end
            at = end
    return None


def _took(walk: _Walk, marker: int, segment: bytes) -> bool:
    """Note what a segment says; False where it says less than it must."""
    if marker in _FRAMES:
        return _took_frame(walk, marker, segment)
    if marker == _INTERVAL:
        walk.interval = int.from_bytes(segment[:2], "big")
    if marker == _TABLES:
        _take_tables(walk, segment)
    return marker != _SCAN or _took_scan(walk, segment)


def _took_frame(walk: _Walk, marker: int, segment: bytes) -> bool:
    if len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
        return False
    walk.kind = marker
    walk.size = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
    parts = 64 if marker in _PROGRESSIVE else 1
    for k in range(6, 6 + 3 * segment[5], 3):
        identifier, factors = segment[k], segment[k + 1]
        walk.factors[identifier] = max(factors >> 4, 1), max(factors & 15, 1)
        walk.missing[identifier] = [None] * parts
    return True


def _take_tables(walk: _Walk, segment: bytes) -> None:
    while len(segment) > 17:
        size = 17 + sum(segment[1:17])
        walk.tables[segment[0]] = segment[1:size]
        segment = segment[size:]


def _took_scan(walk: _Walk, segment: bytes) -> bool:
    components = _components_of(segment)
    if len(segment) < 4 + 2 * len(components) or not set(components) <= set(walk.factors):
        return False
    walk.scans += 1
    first, last, bits = segment[-3:]
    for identifier in components:
        missing = walk.missing[identifier]
        if walk.kind in _PROGRESSIVE:
            for k in range(first, min(last, 63) + 1):
                missing[k] = bits & 15
        else:
            missing[0] = 0
    return bool(components)


def _components_of(scan: bytes) -> tuple[int, ...]:
    """Return the identifiers of the components of a scan, from its header."""
    return tuple(scan[1 : 1 + 2 * scan[0] : 2]) if scan else ()


def _restarts_needed(walk: _Walk, scan: bytes) -> int:
    """Return how many restarts a scan must have at least."""
    if not walk.interval:
        return 0
    components = _components_of(scan)
    side = 1 if walk.kind in _LOSSLESS else 8
    # Of several components a unit holds a block of the coarsest one; one alone has its own blocks.
    own = walk.factors[components[0]] if len(components) == 1 else (1, 1)
    widest = [max(factors[k] for factors in walk.factors.values()) for k in (0, 1)]
    across = -(-walk.size[1] * own[0] // (widest[0] * side))
    down = -(-walk.size[0] * own[1] // (widest[1] * side))
    return -(-across * down // walk.interval) - 1
