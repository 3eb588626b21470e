"""Check from code lengths alone whether JPEG scan data are complete.

The length of the code that begins at a bit, with the bits that belong to it, is looked up for all
bits of a chunk at once; then the codes are followed one by one.

Reference:
    ISO/IEC 10918-1 C.2, F.1.2 and H.1.2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt


_LONGEST = 16
"""Bits of the longest code; also the category of a difference that no bits follow."""

_NO_CODE = 255
"""Length given to bits that are not a code, such as those that fill the last byte."""

_CHUNK = 2**18
"""Bytes that are looked up at once; each byte briefly takes dozens of bytes of memory."""

_SAMPLE, _BLOCK = 4, 256
"""Most bytes of a lossless sample, and of a block."""

_COEFFICIENTS = 64

_STEPS = np.array(
    [
        (symbol >> 4) + 1 if symbol & 15 or symbol == 0xF0 else _COEFFICIENTS
        for symbol in range(256)
    ],
    np.uint8,
)
"""Coefficients that a symbol stands for: a run of zeros and one more, or all remaining ones."""


def has_all_samples(data: bytes, tables: Sequence[bytes], count: int) -> bool:
    """Whether the data of a lossless JPEG scan hold ``count`` samples of each component.

    A sample is a Huffman code, which gives the number of bits of its difference that follow.

    Args:
        data: Data of a scan without restarts, as stored in the file.
        tables: Huffman table of each component of the scan: the number of codes of each length
            in sixteen bytes, then the values that the codes stand for.
        count: Number of samples of each component.
    """
    data = data.replace(b"\xff\x00", b"\xff")
    total, done, place = count * len(tables), 0, 0
    for start in range(0, len(data), _CHUNK):
        part = data[start : start + _CHUNK + _SAMPLE]
        lengths = [_at_each_bit(part, _bits(table)) for table in tables]
        try:
            while done < total and place < 8 * _CHUNK:
                place += lengths[done % len(lengths)][place]
                done += 1
        except IndexError:
            return False
        if done == total:
            return place <= 8 * len(part)
        place -= 8 * _CHUNK
    return total == 0


def has_all_blocks(data: bytes, tables: Sequence[tuple[bytes, bytes]], count: int) -> bool:
    """Whether the data of a sequential scan hold ``count`` units of blocks.

    Args:
        data: Data of a scan without restarts, as stored in the file.
        tables: Two Huffman tables for each block of a unit, for the first coefficient and for the
            others, in the format of :func:`has_all_samples`.
        count: Number of units.
    """
    data = data.replace(b"\xff\x00", b"\xff")
    total, done, place = count * len(tables), 0, 0
    for start in range(0, len(data), _CHUNK):
        part = data[start : start + _CHUNK + _BLOCK]
        looked_up = {pair: _block_at_each_bit(part, *pair) for pair in set(tables)}
        blocks = [looked_up[pair] for pair in tables]
        try:
            while done < total and place < 8 * _CHUNK:
                first, others, steps = blocks[done % len(blocks)]
                place += first[place]
                known = 1
                while known < _COEFFICIENTS:
                    known += steps[place]
                    place += others[place]
                done += 1
        except IndexError:
            return False
        if done == total:
            return place <= 8 * len(part)
        place -= 8 * _CHUNK
    return total == 0


def _block_at_each_bit(data: bytes, first: bytes, others: bytes) -> tuple[bytes, bytes, bytes]:
    """Return, for each bit, the lengths of both codes and the coefficients of the second."""
    return (
        _at_each_bit(data, _bits(first)),
        _at_each_bit(data, _bits(others)),
        _at_each_bit(data, _steps(others)),
    )


def _at_each_bit(data: bytes, of_codes: npt.NDArray[np.uint8]) -> bytes:
    """Return, for each bit of a chunk, what the sixteen bits that begin there stand for."""
    stated = np.frombuffer(data + bytes(2), np.uint8).astype(np.uint32)
    ahead = stated[:-2] << 16 | stated[1:-1] << 8 | stated[2:]
    return np.stack([of_codes[ahead >> (8 - bit) & 0xFFFF] for bit in range(8)], axis=1).tobytes()


@lru_cache(maxsize=16)
def _bits(table: bytes) -> npt.NDArray[np.uint8]:
    """Return the bits of a code and the number after it, by the sixteen bits it begins."""
    lengths, symbols = _by_code(table)
    return lengths + symbols % _LONGEST


@lru_cache(maxsize=16)
def _steps(table: bytes) -> npt.NDArray[np.uint8]:
    """Return how many coefficients a code stands for, by the sixteen bits it begins."""
    return _STEPS[_by_code(table)[1]]


def _by_code(table: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return the length and symbol of a code, by the sixteen bits it begins."""
    lengths = np.full(2**_LONGEST, _NO_CODE, np.uint8)
    symbols = np.zeros(2**_LONGEST, np.uint8)
    code, place = 0, _LONGEST
    for length in range(1, _LONGEST + 1):
        width = 2 ** (_LONGEST - length)
        for symbol in table[place : place + table[length - 1]]:
            lengths[code * width : (code + 1) * width] = length
            symbols[code * width : (code + 1) * width] = symbol
            code += 1
        place += table[length - 1]
        code *= 2
    return lengths, symbols
