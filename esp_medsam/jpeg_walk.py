"""Walk the segments of a JPEG file without decoding it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple


LOSSLESS, PROGRESSIVE, ARITHMETIC = (0xC3, 0xCB), (0xC2, 0xCA), range(0xC9, 0xD0)

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""SOF0 to SOF15; the other markers in that range are tables and an extension."""

_START, _END, _TABLES, _SCAN, _INTERVAL = b"\xff\xd8", b"\xd9", 0xC4, 0xDA, 0xDD

_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
"""A marker other than a restart: it begins a segment and ends the data of a scan.

Fill bytes before it are not matched, because that takes time quadratic in their number.
"""

MOST_SEGMENTS = 65_536
"""Limit on the number of segments, so that a walk ends."""


class Scan(NamedTuple):
    """One scan.

    Attributes:
        header: Content of its segment.
        start: Where its data begin.
        end: Where its data end, fill bytes included.
        interval: Minimum coded units between two restarts; 0 without restarts.
        units: Number of minimum coded units.
        tables: Huffman tables by class and number, as defined when the scan begins.
    """

    header: bytes
    start: int
    end: int
    interval: int
    units: int
    tables: dict[int, bytes]

    @property
    def restarts(self) -> int:
        """Number of restarts that its data must have."""
        return -(-self.units // self.interval) - 1 if self.interval else 0

    @property
    def components(self) -> tuple[int, ...]:
        """The identifiers of its components."""
        return _components_of(self.header)


@dataclass
class Walk:
    """The content of the segments of a JPEG.

    Attributes:
        kind: Marker of the frame, which tells how it is coded.
        size: Rows and columns.
        factors: Sampling factors of each component, across and down, by its identifier.
        interval: Minimum coded units between two restarts, as last stated.
        missing: For each component, and for each coefficient if progressive, how many of the
            lowest bits are still to come; None if nothing has come yet.
        tables: Huffman tables by class and number, as last defined.
        scans: The scans, in file order.
        is_stepwise: Whether each scan of a progressive JPEG continues where earlier scans ended.
    """

    kind: int = 0
    size: tuple[int, int] = (0, 0)
    factors: dict[int, tuple[int, int]] = field(default_factory=dict)
    interval: int = 0
    missing: dict[int, list[int | None]] = field(default_factory=dict)
    tables: dict[int, bytes] = field(default_factory=dict)
    scans: list[Scan] = field(default_factory=list)
    is_stepwise: bool = True

    @property
    def is_complete(self) -> bool:
        """Whether all scans are there, whatever data they hold."""
        missing = {bits for component in self.missing.values() for bits in component}
        return self.is_stepwise and bool(self.scans) and missing == {0}


def walk_of(data: bytes) -> Walk | None:
    """Return the content of the segments; None if one is cut short or contradicts another.

    Reference:
        ISO/IEC 10918-1 B.2.
    """
    if not data.startswith(_START):
        return None
    walk = Walk()
    at = len(_START)
    for _ in range(MOST_SEGMENTS):
        found = _MARKER.search(data, at)
        if found is None or found[1] == _END:
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
            units, tables = _units(walk, segment), walk.tables.copy()
            walk.scans.append(Scan(segment, at, end, walk.interval, units, tables))
            at = end
    return None


def _took(walk: Walk, marker: int, segment: bytes) -> bool:
    """Record the content of a segment; return False if required content is missing."""
    if marker in _FRAMES:
        return _took_frame(walk, marker, segment)
    if marker == _INTERVAL:
        walk.interval = int.from_bytes(segment[:2], "big")
    if marker == _TABLES:
        _take_tables(walk, segment)
    return marker != _SCAN or _took_scan(walk, segment)


def _took_frame(walk: Walk, marker: int, segment: bytes) -> bool:
    if len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
        return False
    walk.kind = marker
    walk.size = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
    parts = 64 if marker in PROGRESSIVE else 1
    for k in range(6, 6 + 3 * segment[5], 3):
        identifier, factors = segment[k], segment[k + 1]
        walk.factors[identifier] = max(factors >> 4, 1), max(factors & 15, 1)
        walk.missing[identifier] = [None] * parts
    return True


def _take_tables(walk: Walk, segment: bytes) -> None:
    while len(segment) > 17:
        size = 17 + sum(segment[1:17])
        walk.tables[segment[0]] = segment[1:size]
        segment = segment[size:]


def _took_scan(walk: Walk, segment: bytes) -> bool:
    components = _components_of(segment)
    if len(segment) < 4 + 2 * len(components) or not set(components) <= set(walk.factors):
        return False
    first, last, bits = segment[-3:]
    for identifier in components:
        missing = walk.missing[identifier]
        if walk.kind in PROGRESSIVE:
            for k in range(first, min(last, 63) + 1):
                walk.is_stepwise &= bits >> 4 in (0, missing[k])
                missing[k] = bits & 15
        else:
            missing[0] = 0
    return bool(components)


def _components_of(scan: bytes) -> tuple[int, ...]:
    """Return the identifiers of the components of a scan, from its header."""
    return tuple(scan[1 : 1 + 2 * scan[0] : 2]) if scan else ()


def _units(walk: Walk, scan: bytes) -> int:
    """Return how many minimum coded units a scan has.

    With several components, a unit holds one block of the coarsest; a single one uses its own.
    """
    components = _components_of(scan)
    side = 1 if walk.kind in LOSSLESS else 8
    own = walk.factors[components[0]] if len(components) == 1 else (1, 1)
    widest = [max(factors[k] for factors in walk.factors.values()) for k in (0, 1)]
    across = -(-walk.size[1] * own[0] // (widest[0] * side))
    down = -(-walk.size[0] * own[1] // (widest[1] * side))
    return across * down
