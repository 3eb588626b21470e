"""Frames of one bit a pixel, eight of which share a byte, and which may begin inside one.

pydicom 3.0 decodes such a frame from as many bytes as it would take from the start of one, which
are too few where it ends in the byte after; the same frames are whole in its array of all of them.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class BitLayout:
    """How frames of one bit a pixel follow each other.

    Attributes:
        rows: Rows of a frame.
        columns: Its columns.
        step: Bits from the start of one frame to the start of the next.
        beyond: Bytes behind the last frame, but for the one that makes their number even.
    """

    rows: int
    columns: int
    step: int
    beyond: int = 0

    @property
    def pixels(self) -> int:
        """Pixels of a frame."""
        return self.rows * self.columns

    @property
    def is_padded(self) -> bool:
        """Whether each frame ends with bits that are no pixels, against the standard."""
        return self.step > self.pixels


def bit_layout(content: bytes, rows: int, columns: int, count: int) -> BitLayout:
    """Return how frames lie in pixel data: without a gap, as the standard has it, wherever it can.

    Some writers, cornerstone3D 5 among them, begin each frame in a byte of its own. They are known
    by the length of all, which then is exactly that of such frames and more than that of frames
    without a gap, and by bits between frames that are all 0.

    Args:
        content: All frames; it was checked to hold them.
        rows: Rows of a frame.
        columns: Its columns.
        count: How many there are.

    Reference:
        DICOM PS3.5 8.1.1 and 8.2: bits follow each other, the first in the lowest of a byte; only
        the end of all is padded, to an even number of bytes.
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
        content: All frames; it was checked to hold them.
        layout: How they follow each other.
        indices: Numbers of the frames wanted, from 0.
    """
    for index in indices:
        start = index * layout.step
        end = start + layout.pixels
        held = np.frombuffer(content, np.uint8, _bytes(end) - start // 8, start // 8)
        bits = np.unpackbits(held, bitorder="little")[start % 8 :][: layout.pixels]
        yield bits.reshape(layout.rows, layout.columns)


def one_byte_a_pixel(content: bytes, count: int) -> bytes:
    """Return pixels of one bit as bytes of 0 and 1, of even length.

    Args:
        content: The pixels, without gaps.
        count: How many there are.
    """
    held = np.frombuffer(content, dtype=np.uint8)
    return np.unpackbits(held, count=count, bitorder="little").tobytes() + bytes(count % 2)


class PixelPacker:
    """Pixel Data, frame after frame.

    Args:
        bits: Bits of a pixel: 1, eight of which share a byte across frames too, or 8.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self._buffer = io.BytesIO()
        self._rest = np.zeros(0, dtype=np.uint8)

    def add(self, frame: npt.NDArray[np.uint8]) -> None:
        """Append a frame ``(rows, columns)``; of 1 bit its values are 0 and 1."""
        if self.bits == 8:
            self._buffer.write(np.ascontiguousarray(frame).data)
            return
        pixels = np.concatenate([self._rest, frame.ravel()])
        whole = len(pixels) // 8 * 8
        self._buffer.write(np.packbits(pixels[:whole], bitorder="little").data)
        self._rest = pixels[whole:]

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._buffer.tell()

    def finish(self) -> bytes:
        """Return all of it, of even length."""
        self._buffer.write(np.packbits(self._rest, bitorder="little").data)
        self._rest = self._rest[:0]
        if self._buffer.tell() % 2:
            self._buffer.write(b"\0")
        return self._buffer.getvalue()


def _bytes(bits: int) -> int:
    return -(-bits // 8)


def _even(length: int) -> int:
    return length + length % 2
