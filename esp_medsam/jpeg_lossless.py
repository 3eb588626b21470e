"""Whether lossless JPEG has a code for every sample, by the lengths of its codes alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt


_LONGEST = 16
"""Bits of the longest code; and the category of a difference of which no bits follow."""

_NO_CODE = 255
"""Bits that what is no code takes: more than any, as the bits that fill the last byte are none."""

_CHUNK = 2**20
"""Bytes that are looked up at once: each takes dozens for a moment."""


def has_all_samples(data: bytes, tables: Sequence[bytes], count: int) -> bool:
    """Whether the data of a scan hold so many samples of each component.

    A sample is a Huffman code, which says how many bits of its difference follow. How long the
    sample would be that begins at a bit is looked up for all bits at once; then the samples are
    walked along.

    Args:
        data: Data of a scan without restarts, as they stand in the file.
        tables: Of each component of the scan its Huffman table: how many codes there are of each
            length, sixteen bytes, and then the values they stand for.
        count: Samples of a component.

    Reference:
        ISO/IEC 10918-1 C.2 and H.1.2.2.
    """
    data = data.replace(b"\xff\x00", b"\xff")
    by_code = [_lengths_by_code(table) for table in tables]
    total, done, place = count * len(tables), 0, 0
    for start in range(0, len(data), _CHUNK):
        part = data[start : start + _CHUNK + 2]
        lengths = [_lengths(part, of_codes) for of_codes in by_code]
        try:
            for sample in range(done, total):
                place += lengths[sample % len(lengths)][place]
        except IndexError:
            done, place = sample, place - 8 * _CHUNK
        else:
            return place <= 8 * len(part)
    return total == 0


def _lengths(data: bytes, of_codes: npt.NDArray[np.uint8]) -> bytes:
    """Return, for each bit of a chunk, the bits of the sample that would begin there."""
    stated = np.frombuffer(data + bytes(2), np.uint8).astype(np.uint32)
    ahead = stated[:-2] << 16 | stated[1:-1] << 8 | stated[2:]
    lengths = np.stack([of_codes[ahead >> (8 - bit) & 0xFFFF] for bit in range(8)], axis=1)
    return lengths[:_CHUNK].tobytes()


@lru_cache(maxsize=8)
def _lengths_by_code(table: bytes) -> npt.NDArray[np.uint8]:
    """Return the bits of a sample by the sixteen that begin with its code."""
    lengths = np.full(2**_LONGEST, _NO_CODE, np.uint8)
    code, place = 0, _LONGEST
    for length in range(1, _LONGEST + 1):
        width = 2 ** (_LONGEST - length)
        for category in table[place : place + table[length - 1]]:
            lengths[code * width : (code + 1) * width] = length + category % _LONGEST
            code += 1
        place += table[length - 1]
        code *= 2
    return lengths
