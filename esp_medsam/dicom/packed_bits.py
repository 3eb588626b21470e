"""Frames of one bit per pixel, with eight pixels in a byte, which may begin inside a byte.

pydicom 3.0 decodes such a frame from as many bytes as it needs if it begins at a byte boundary,
which is too few if it ends one byte later; pydicom's array of all frames is not affected.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class BitLayout:
    """How frames of one bit per pixel follow each other.

    Attributes:
        rows: Rows of a frame.
        columns: Columns of a frame.
        step: Bits from the start of one frame to the start of the next.
        beyond: Bytes after the last frame, excluding the byte that makes the length even.
    """

    rows: int
    columns: int
    step: int
    beyond: int = 0

    @property
    def pixels(self) -> int:
        """Number of pixels in a frame."""
        return self.rows * self.columns

    @property
    def is_padded(self) -> bool:
        """Whether each frame ends with bits that are not pixels, contrary to the standard."""
        return self.step > self.pixels


def bit_layout(content: bytes, rows: int, columns: int, count: int) -> BitLayout:
    """Return the layout of frames in pixel data: without gaps, as in the standard, if possible.

    Some writers, such as cornerstone3D 5, begin each frame in a new byte. Their files are
    recognized by a total length that exactly fits such frames and exceeds that of frames without
    gaps, and by bits between frames that are all 0.

    Args:
        content: All frames; already checked to be complete.
        rows: Rows of a frame.
        columns: Columns of a frame.
        count: Number of frames.

    Reference:
        DICOM PS3.5 8.1.1 and 8.2: bits follow each other, the first in the lowest bit of a byte;
        only the end of all frames is padded, to an even number of bytes.
    """
    pixels = rows * columns
    padded = BitLayout(rows, columns, -(-pixels // 8) * 8)
    length, without_gap, apart = len(content), _bytes(pixels * count), padded.step // 8 * count
    plain = BitLayout(rows, columns, pixels, max(0, length - _even(without_gap)))
    if length <= _even(without_gap) or length not in (apart, _even(apart)):
        return plain
    last = np.frombuffer(content, dtype=np.uint8)[padded.step // 8 - 1 : apart : padded.step // 8]
    has_gaps = not (last >> (8 - padded.step + pixels)).any()
    return padded if has_gaps else plain


def unpacked_frames(
    content: bytes, layout: BitLayout, indices: Iterable[int]
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield frames as ``(rows, columns)`` of 0 and 1, one at a time.

    Args:
        content: All frames; already checked to be complete.
        layout: How the frames follow each other.
        indices: Indices of the wanted frames, from 0.
    """
    for index in indices:
        start = index * layout.step
        end = start + layout.pixels
        held = np.frombuffer(content, np.uint8, _bytes(end) - start // 8, start // 8)
        bits = np.unpackbits(held, bitorder="little")[start % 8 :][: layout.pixels]
        yield bits.reshape(layout.rows, layout.columns)


def one_byte_a_pixel(content: bytes, count: int) -> bytes:
    """Return one-bit pixels as bytes of 0 and 1, padded to an even length.

    Args:
        content: The pixels, without gaps.
        count: Number of pixels.
    """
    held = np.frombuffer(content, dtype=np.uint8)
    return np.unpackbits(held, count=count, bitorder="little").tobytes() + bytes(count % 2)


class PixelPacker:
    """Builder of Pixel Data, frame after frame.

    Args:
        bits: Bits per pixel: 1, with eight pixels in a byte even across frames, or 8.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self._buffer = io.BytesIO()
        self._rest = np.zeros(0, dtype=np.uint8)

    def add(self, frame: npt.NDArray[np.uint8]) -> None:
        """Append a frame ``(rows, columns)``; with 1 bit per pixel, its values are 0 and 1."""
        if self.bits == 8:
            self._buffer.write(np.ascontiguousarray(frame).data)
            return
        pixels = np.concatenate([self._rest, frame.ravel()])
        whole = len(pixels) // 8 * 8
        self._buffer.write(np.packbits(pixels[:whole], bitorder="little").data)
        self._rest = pixels[whole:]

    @property
    def size(self) -> int:
        """Number of bytes so far."""
        return self._buffer.tell()

    def finish(self) -> bytes:
        """Return all Pixel Data, padded to an even length."""
        self._buffer.write(np.packbits(self._rest, bitorder="little").data)
        self._rest = self._rest[:0]
        if self._buffer.tell() % 2:
            self._buffer.write(b"\0")
        return self._buffer.getvalue()


def _bytes(bits: int) -> int:
    return -(-bits // 8)


def _even(length: int) -> int:
    return length + length % 2
