"""Detect truncated JPEG data, which decoders silently fill with gray.

Bytes in, an answer out. Nothing is decoded here; the caller passes in a decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from esp_medsam.jpeg_codes import has_all_blocks, has_all_samples
from esp_medsam.jpeg_walk import (
    ARITHMETIC,
    LOSSLESS,
    MOST_SEGMENTS,
    PROGRESSIVE,
    Scan,
    Walk,
    walk_of,
)


MOST_SCANS = 100
"""Most scans of a JPEG that is decoded: a scan of few bytes is a pass over the whole picture.

Encoders write ten.
"""

_END, _FILL, _FIRST_RESTART = b"\xff\xd9", 0xFF, 0xD0

_ALIKE = 16
"""Samples at the end of a lossless picture that are all equal if a decoder filled it."""

_MORE = tuple(bytes((m * k + n) % 251 for k in range(64)) for m, n in ((73, 165), (17, 99)))
"""Bytes added for a decoder to continue with: varied bits, but no marker.

The second begins differently, for progressive pictures: one code may end thousands of blocks.
"""

_LEAST_MORE, _MUCH = 2, 2**20
"""Fewest bytes added to each of many restart intervals, and most bytes added in total."""


class _Intervals(NamedTuple):
    """The restart intervals of a scan: its data between restarts; one if it has no restarts.

    Attributes:
        starts: Start of each interval.
        ends: End of each interval, before the fill bytes and the marker.
    """

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]


def count_scans(data: bytes) -> int:
    """Return how many scans a JPEG has; 0 if its segments cannot be followed to a scan.

    Check this before decoding, see `MOST_SCANS`.
    """
    walk = walk_of(data)
    return len(walk.scans) if walk else 0


def is_whole(
    data: bytes, picture: npt.NDArray[Any], decode: Callable[[bytes], npt.NDArray[Any]] | None
) -> bool:
    """Whether a JPEG has data for every block of its picture.

    A JPEG that was cut and closed with an end marker decodes without an error: the rest is gray,
    or coarse if progressive. So this first checks that all scans and restarts are there. It then
    decodes the JPEG again, twice if progressive, with bytes added to each scan, before each
    restart and at its end. A decoder with complete data skips the added bytes; a decoder that
    lacks data consumes them and returns a different picture.

    For lossless JPEG, whose decoders fill with one value and report added bytes, samples are
    counted instead: if the picture ends in one value, and always with several scans or restarts.
    Without a decoder, blocks are counted. For progressive JPEG without a decoder, and for
    arithmetic coding, whose data may validly end early, only scans and restarts are counted.

    Args:
        data: The JPEG, from its start marker; bytes after its end marker are ignored.
        picture: The picture that ``decode`` returned for the data.
        decode: The decoder; None if there is none that skips added bytes. Any exception other
            than ``MemoryError`` means that it met the added bytes.

    Returns:
        False if something is missing, or the segments cannot be followed to a picture.

    Reference:
        ISO/IEC 10918-1 B.2, G.1.1 and H.1.
    """
    walk = walk_of(data)
    if walk is None or not walk.is_complete:
        return False
    scans = [_intervals(data, scan) for scan in walk.scans]
    intervals = [scan for scan in scans if scan is not None]
    if len(intervals) < len(scans):
        return False
    if walk.kind in ARITHMETIC:
        return True
    if walk.kind in LOSSLESS:
        is_one = len(scans) == 1 and not walk.scans[0].restarts
        if is_one and not _ends_alike(picture):
            return True
    if walk.kind in LOSSLESS or (decode is None and walk.kind not in PROGRESSIVE):
        pairs = zip(walk.scans, intervals, strict=True)
        return all(_has_all_units(data, walk, *pair) for pair in pairs)
    return decode is None or _is_decoded_alike(data, picture, decode, walk, intervals)


def _is_decoded_alike(
    data: bytes,
    picture: npt.NDArray[Any],
    decode: Callable[[bytes], npt.NDArray[Any]],
    walk: Walk,
    intervals: Sequence[_Intervals],
) -> bool:
    """Whether a picture stays the same when bytes are added to its scans."""
    try:
        for more in _MORE[: 2 if walk.kind in PROGRESSIVE else 1]:
            if not np.array_equal(picture, decode(_with_more(data, intervals, more))):
                return False
    except MemoryError:
        raise
    except Exception:  # decoders document no set of errors
        return False
    return True


def _intervals(data: bytes, scan: Scan) -> _Intervals | None:
    """Return the restart intervals of a scan; None if a restart is missing or out of order.

    A decoder stops at any marker, so the last interval ends at the first marker after it.
    """
    part = np.frombuffer(data, np.uint8, scan.end - scan.start, scan.start)
    is_mark = (part[:-1] == _FILL) & (part[1:] != 0) & (part[1:] != _FILL)
    count = np.count_nonzero(is_mark)
    if not scan.restarts <= count <= scan.restarts + MOST_SEGMENTS:
        return None
    marks = np.flatnonzero(is_mark)[: scan.restarts + 1]
    restarts = marks[: scan.restarts]
    turns = _FIRST_RESTART + np.arange(len(restarts)) % 8
    if not np.array_equal(part[restarts + 1], turns):
        return None
    ends = marks if len(marks) > len(restarts) else np.append(marks, len(part))
    starts = np.concatenate(([0], restarts + 2)) + scan.start
    ends = _before_fill(data, starts, ends + scan.start)
    return _Intervals(starts, ends)


def _before_fill(
    data: bytes, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return where data end without the fill bytes that may follow and belong to the marker."""
    filled = np.frombuffer(data, np.uint8)[ends - 1] == _FILL
    for k in np.flatnonzero(filled & (ends > starts)):
        ends[k] = starts[k] + len(data[starts[k] : ends[k]].rstrip(bytes((_FILL,))))
    return ends


def _with_more(data: bytes, scans: Sequence[_Intervals], more: bytes) -> bytes:
    """Return a JPEG with more data than it needs; a large one becomes about twice as large."""
    ends = np.concatenate([scan.ends for scan in scans])
    more = more[: max(_LEAST_MORE, max(len(data), _MUCH) // len(ends))]
    parts: list[bytes] = []
    at = 0
    for end in ends.tolist():
        parts += (data[at:end], more)
        at = end
    # Nothing after the end of the last scan can belong to the picture.
    return b"".join((*parts, _END))


def _ends_alike(picture: npt.NDArray[Any]) -> bool:
    """Whether a picture ends in one value, as it does if a decoder filled it."""
    end = picture[-1, -_ALIKE:]
    return bool((end == end[-1]).all())


def _has_all_units(data: bytes, walk: Walk, scan: Scan, intervals: _Intervals) -> bool:
    """Whether each interval of a sequential or lossless scan has the codes of all its units."""
    selectors = scan.header[2 : 2 + 2 * len(scan.components) : 2]
    first = [scan.tables.get(number >> 4, b"") for number in selectors]
    others = [scan.tables.get(0x10 | (number & 15), b"") for number in selectors]
    factors = [walk.factors[identifier] for identifier in scan.components]
    counts = [1] if len(factors) == 1 else [across * down for across, down in factors]
    is_lossless = walk.kind in LOSSLESS
    if not all(first) or not (is_lossless or all(others)):
        return True  # decoders refuse such a scan
    if is_lossless and (max(counts) > 1 or scan.interval % (walk.size[1] or 1)):
        return True  # subsampling is not used, and decoders refuse such an interval
    blocks = [
        pair
        for pair, count in zip(zip(first, others, strict=True), counts, strict=True)
        for _ in range(count)
    ]
    left = scan.units
    for start, end in zip(intervals.starts.tolist(), intervals.ends.tolist(), strict=True):
        count = min(scan.interval or left, left)
        if is_lossless:
            is_whole_part = has_all_samples(data[start:end], first, count)
        else:
            is_whole_part = has_all_blocks(data[start:end], blocks, count)
        if not is_whole_part:
            return False
        left -= count
    return True
