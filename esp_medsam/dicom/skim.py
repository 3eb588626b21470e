"""Find the elements of a DICOM data set in a file, within bounds.

This package decodes and writes with pydicom, which bounds nothing: it turns each of a million empty
items into kilobytes, and recurses into nested sequences. So files of other origin are skimmed
first: wanted elements are kept as bytes, all others are skipped, and each step counts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterator
from functools import cache
from itertools import product
from typing import NamedTuple, Protocol

from pydicom.datadict import dictionary_has_tag, dictionary_VR


UNDEFINED = 0xFFFFFFFF
"""Length of an element or item of undefined length, which ends with a delimiter."""

MOST_PIECES, _PIECES, _LEAST_PIECE = 8_000_000, 400_000, 40
"""Limit on elements and items: at most 400,000 plus one per 40 bytes, and at most 8,000,000."""

_WANTED, _LEAST_WANTED = 80_000, 96
"""Limit on those that are kept: 80,000 plus one per 96 bytes.

A frame of enhanced MR has about a hundred, thirty of which are kept; with its pixels it has some
thousand bytes. A frame of a segmentation has fewer of each.
"""

MOST_KEPT = 2**26
"""Most bytes of a header that are kept."""

_DEEPEST = 64
"""Deepest nesting of sequences."""

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR",
                   b"UT", b"UV"))  # fmt: skip
"""Value representations that, if written, are followed by a length of four bytes."""

_NO_END = 2**63

Until = Callable[[int, "str | None", int], bool]
"""Takes the tag, representation and length of an element; returns whether to end before it."""


_WINDOW = 2**16
"""Bytes of the file that are buffered."""

REPRESENTATIONS = frozenset(bytes(pair) for pair in product(range(65, 91), repeat=2))
"""All possible value representations: two capital letters."""

_HEADS = {True: struct.Struct("<HHL"), False: struct.Struct(">HHL")}
_SHORTS = {True: struct.Struct("<H"), False: struct.Struct(">H")}
_LONGS = {True: struct.Struct("<L"), False: struct.Struct(">L")}
"""Formats by byte order (True: little-endian): tag and length, two-byte and four-byte lengths."""


class Source(Protocol):
    """A source of bytes to skim: an open file, or bytes in memory."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes."""

    def seek(self, offset: int, /) -> int:
        """Go to an offset, which may lie beyond the end."""

    def tell(self) -> int:
        """Return the current offset."""


class SkimError(ValueError):
    """A data set that cannot be parsed or exceeds a limit; the message says which."""


class Encoding(NamedTuple):
    """How elements are written: with implicit representations, and in little-endian order."""

    implicit: bool
    little: bool


class RawElement(NamedTuple):
    """An element as it stands in a file.

    Attributes:
        representation: Its value representation, such as ``DS``; None if the file states none.
        value: Its bytes, fewer than stated if the file is cut short; its items if the standard
            makes it a sequence; None if that cannot be parsed, or a non-sequence is written as one.
    """

    representation: str | None
    value: bytes | tuple[RawDataset, ...] | None


class RawDataset(NamedTuple):
    """The wanted elements of a data set or of an item, by tag."""

    encoding: Encoding
    elements: dict[int, RawElement]
    wanted: Container[int]


class Skimmer:
    """A reader that skims a file within bounds that hold for the whole file.

    Args:
        source: The source of the bytes.
        size: Length of the source in bytes.

    Attributes:
        pieces: Elements and items that may still follow.
    """

    def __init__(self, source: Source, size: int) -> None:
        self.pieces = min(_PIECES + size // _LEAST_PIECE, MOST_PIECES)
        self._wanted = _WANTED + size // _LEAST_WANTED
        self._kept = MOST_KEPT
        self._source = source
        self._window, self._start, self._at = b"", source.tell(), 0

    @property
    def place(self) -> int:
        """The offset in the file of the next byte to read."""
        return self._start + self._at

    def dataset(
        self, encoding: Encoding, wanted: Container[int], until: Until | None = None
    ) -> RawDataset:
        """Return the wanted elements of the data set that begins at the current offset.

        Args:
            encoding: How it is written. Items that lack the representations they should state, as
                those of some writers do, are recognized by their first element.
            wanted: Tags of the elements to keep, in items too.
            until: Called for each element, with `place` at its value; reading ends if it is true.

        Returns:
            The data set; the file is positioned after it, or at the element that ended it.

        Raises:
            SkimError: If the data set cannot be parsed or exceeds a limit.
        """
        raw = self._dataset(encoding, wanted, _NO_END, 0, until)
        self._source.seek(self.place)
        return raw

    def _dataset(
        self,
        encoding: Encoding,
        wanted: Container[int],
        end: int,
        depth: int,
        until: Until | None = None,
    ) -> RawDataset:
        """Return the data set here, up to ``end``, the end of its item or the end of the file."""
        encoding = self._encoding_seen(encoding)
        elements: dict[int, RawElement] = {}
        while (start := self._start + self._at) < end:
            head = self._head(encoding)
            if head is None or head[0] == _ITEM_END:
                break
            if until is not None and until(*head):
                self._go(start)
                break
            tag, representation, length = head
            if tag not in wanted:
                if length != UNDEFINED:  # by far the most common case
                    self._at += length
                else:
                    self._pass(encoding, length)
                continue
            self._count_wanted()
            value: bytes | tuple[RawDataset, ...] | None = None
            if _is_sequence(tag):
                value = self._sequence(encoding, wanted, length, end, depth + 1)
            elif length == UNDEFINED:
                self._pass(encoding, length)
            else:
                value = self._bytes(min(length, end - self.place))
            elements[tag] = RawElement(representation, value)
        return RawDataset(encoding, elements, wanted)

    def _sequence(
        self, encoding: Encoding, wanted: Container[int], length: int, end: int, depth: int
    ) -> tuple[RawDataset, ...] | None:
        """Return the items of a sequence, or None if they cannot be parsed but can be skipped."""
        if length == UNDEFINED:
            return tuple(self._items(encoding, wanted, _NO_END, depth))
        end = min(end, self.place + length)
        try:
            return tuple(self._items(encoding, wanted, end, depth))
        except _AstrayError:
            return None
        finally:
            self._go(end)

    def _items(
        self, encoding: Encoding, wanted: Container[int], end: int, depth: int
    ) -> Iterator[RawDataset]:
        """Yield the items up to ``end`` or to the sequence delimiter."""
        if depth > _DEEPEST:
            raise _AstrayError(_TOO_DEEP)
        while self._start + self._at < end:
            head = self._head(encoding)
            if head is not None and head[0] == _SEQUENCE_END:
                return
            if head is None or head[0] != _ITEM:
                raise _AstrayError(_NO_ITEMS)
            self._count_wanted()
            length = head[2]
            if length == UNDEFINED:
                yield self._dataset(encoding, wanted, end, depth)
            elif not length:
                yield RawDataset(encoding, {}, wanted)
            else:
                behind = min(end, self.place + length)
                yield self._dataset(encoding, wanted, behind, depth)
                self._go(behind)

    def _pass(self, encoding: Encoding, length: int) -> None:
        """Skip a value; a value of undefined length is walked item by item."""
        if length != UNDEFINED:
            self._at += length
            return
        inside = [encoding]  # of a sequence, then of its item, of a sequence in that, and so on
        while inside:
            head = self._head(inside[-1])
            is_item = len(inside) % 2 == 0
            if head is None or not (is_item or head[0] in (_ITEM, _SEQUENCE_END)):
                raise _AstrayError(_NO_ITEMS)
            if head[0] == (_ITEM_END if is_item else _SEQUENCE_END):
                inside.pop()
            elif head[2] != UNDEFINED:
                self._at += head[2]
            elif len(inside) >= 2 * _DEEPEST:
                raise _AstrayError(_TOO_DEEP)
            else:
                inside.append(inside[-1] if is_item else self._encoding_seen(inside[-1]))

    def _encoding_seen(self, encoding: Encoding) -> Encoding:
        """Return the encoding of the element here, implicit if it lacks its representation."""
        if encoding.implicit:
            return encoding
        if self._at + 6 > len(self._window):
            self._refill()
        stated = self._window[self._at + 4 : self._at + 6]
        return (
            encoding
            if stated in REPRESENTATIONS or len(stated) < 2
            else Encoding(True, encoding.little)
        )

    def _head(self, encoding: Encoding) -> tuple[int, str | None, int] | None:
        """Return tag, representation and length of the next element or item; None at the end."""
        if self._at + 12 > len(self._window):
            self._refill()
        at, window = self._at, self._window
        if at + 8 > len(window):
            return None
        self.pieces -= 1
        if self.pieces < 0:
            raise SkimError(_TOO_MANY)
        implicit, little = encoding
        group, element, length = _HEADS[little].unpack_from(window, at)
        tag = group << 16 | element
        self._at = at + 8
        stated = window[at + 4 : at + 6]
        if implicit or group == 0xFFFE or stated not in REPRESENTATIONS:
            return tag, None, length
        if stated in _LONG:
            if at + 12 > len(window):
                return None
            self._at = at + 12
            return tag, stated.decode(), _LONGS[little].unpack_from(window, at + 8)[0]
        return tag, stated.decode(), _SHORTS[little].unpack_from(window, at + 6)[0]

    def _bytes(self, size: int) -> bytes:
        """Return a value, or as much of it as the file holds."""
        size = max(0, min(size, self._kept + 1))
        kept = self._window[self._at : self._at + size]
        if len(kept) < size:
            self._source.seek(self.place)
            kept = self._source.read(size)
        self._at += len(kept)
        self._kept -= len(kept)
        if self._kept < 0:
            msg = f"it is longer than {MOST_KEPT} bytes"
            raise SkimError(msg)
        return kept

    def _count_wanted(self) -> None:
        self._wanted -= 1
        if self._wanted < 0:
            raise SkimError(_TOO_MANY)

    def _refill(self) -> None:
        """Fill the buffer from the current offset."""
        self._start, self._at = self.place, 0
        self._source.seek(self._start)
        self._window = self._source.read(_WINDOW)

    def _go(self, place: int) -> None:
        """Go to an offset, and keep the buffer if the offset lies in it."""
        self._at = place - self._start
        if not 0 <= self._at <= len(self._window):
            self._window, self._start, self._at = b"", place, 0


class _AstrayError(SkimError):
    """A sequence that cannot be parsed, although the data around it may be readable."""


_NO_ITEMS = "a sequence holds something other than whole items"
_TOO_DEEP = f"sequences are nested more than {_DEEPEST} deep"
_TOO_MANY = "it falls into too many pieces"


@cache
def _is_sequence(tag: int) -> bool:
    """Whether an element is a sequence according to the standard, whatever its file says."""
    return dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"
