"""Attributes of a DICOM header, read strictly: a value is right, absent, or one clear error."""

from __future__ import annotations

import math
import re
import struct

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from esp_medsam.errors import EspMedSamError, FormatError


_LONGEST = 4096
"""Bytes of a value that is read: none of ours needs a tenth of it."""

_DECIMAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
"""A Decimal String; Python's ``float`` would take underscores and ``nan`` too."""

_ITEM = b"\xfe\xff\x00\xe0"
_PIECES, _LEAST_PIECE = 10_000, 16
"""Items from which on they must take so many bytes each: pydicom makes kilobytes of empty ones."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")

_BINARY = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d"}
"""Format of the binary value representations, as :mod:`struct` calls them."""


class Elements:
    """The attributes of a data set, or of an item of a sequence in it.

    Values are taken from the bytes in the file: pydicom's own conversion warns, guesses or fails
    in its own ways.

    Args:
        dataset: The data set, as pydicom read it.
        path: Its file, for messages.
    """

    def __init__(self, dataset: Dataset, path: str) -> None:
        self.path = path
        self._dataset = dataset
        self._items: dict[str, tuple[Elements, ...]] = {}

    def has(self, attribute: str | int) -> bool:
        """Whether the attribute is there, and not empty."""
        tag = _tag(attribute)
        if tag not in self._dataset:
            return False
        return bool(self._dataset.get_item(tag).value)

    def text(self, attribute: str | int) -> str:
        """Return a text without padding; empty where it is absent."""
        return self._bytes(attribute).decode("latin-1").strip(" \0\t\r\n")

    def texts(self, attribute: str | int) -> tuple[str, ...]:
        """Return the values of a text; none where it is absent."""
        text = self.text(attribute)
        return tuple(part.strip() for part in text.split("\\")) if text else ()

    def uid(self, attribute: str) -> str | None:
        """Return a UID; None where it is absent or empty.

        Raises:
            FormatError: If it is no UID.
        """
        text = self.text(attribute)
        if not text:
            return None
        if len(text) > 64 or not _UID.fullmatch(text):
            raise self.error(attribute, "be a UID, digits and dots up to 64 characters", text)
        return text

    def integer(self, attribute: str, *, least: int = 0) -> int | None:
        """Return one whole number; None where it is absent.

        Raises:
            FormatError: If it is no whole number, or below ``least``.
        """
        values = self.numbers(attribute, 1)
        if values is None:
            return None
        if values[0] < least or values[0] > 2**31 or values[0] != int(values[0]):
            rule = f"be a whole number from {least}"
            raise self.error(attribute, rule, f"{values[0]:g}")
        return int(values[0])

    def numbers(
        self, attribute: str | int, count: int, error: type[EspMedSamError] = FormatError
    ) -> tuple[float, ...] | None:
        """Return ``count`` finite numbers, written as text or binary; None where it is absent.

        Raises:
            EspMedSamError: An ``error`` if there are more or fewer, or one is not finite.
        """
        if not self.has(attribute):
            return None
        code = _BINARY.get(_representation(attribute))
        if code is None:
            parts = self.texts(attribute)
            readable = all(_DECIMAL.fullmatch(part) and len(part) <= 64 for part in parts)
            values = tuple(float(part) for part in parts) if readable else (math.nan,)
            got = "\\".join(parts)
        else:
            values = self._unpacked(attribute, code)
            got = "\\".join(f"{value:g}" for value in values)
        if got and (len(values) != count or not all(map(math.isfinite, values))):
            number = "a finite number" if count == 1 else f"{count} finite numbers"
            raise self.error(attribute, f"be {number}", got, error)
        return values if got else None

    def number(self, attribute: str, error: type[EspMedSamError] = FormatError) -> float | None:
        """Return one finite number; None where it is absent.

        Raises:
            EspMedSamError: An ``error`` if there are several, or it is not finite.
        """
        values = self.numbers(attribute, 1, error)
        return None if values is None else values[0]

    def integers(self, attribute: str) -> tuple[int, ...]:
        """Return binary whole numbers, however many; none where it is absent."""
        return tuple(int(v) for v in self._unpacked(attribute, _BINARY[_representation(attribute)]))

    def tag(self, attribute: str) -> str:
        """Return the keyword of the attribute that this one points to; empty where unknown."""
        value = self._bytes(attribute)
        if len(value) != 4:
            return ""
        group, element = struct.unpack(f"{self._order(attribute)}HH", value)
        return keyword_for_tag(group << 16 | element)

    def items(self, attribute: str) -> tuple[Elements, ...]:
        """Return the items of a sequence; none where it is absent.

        Raises:
            FormatError: If it is no sequence.
        """
        if attribute not in self._items:
            self._items[attribute] = self._read_items(attribute)
        return self._items[attribute]

    def item(self, attribute: str) -> Elements | None:
        """Return the first item of a sequence; None where there is none."""
        items = self.items(attribute)
        return items[0] if items else None

    def error(
        self,
        attribute: str | int,
        rule: str,
        got: str,
        error: type[EspMedSamError] = FormatError,
    ) -> EspMedSamError:
        """Return the error that says what an attribute must be and what it is."""
        shown = got if len(got) <= 40 else f"{got[:40]}..."
        msg = f"{_described(attribute)} of {self.path} must {rule}; got {shown!r}."
        return error(msg)

    def missing(self, attribute: str, error: type[EspMedSamError] = FormatError) -> EspMedSamError:
        """Return the error that says that an attribute is not there."""
        msg = f"{self.path} must state {_described(attribute)}; it is missing or empty."
        return error(msg)

    def _read_items(self, attribute: str) -> tuple[Elements, ...]:
        if not self.has(attribute):
            return ()
        raw = self._dataset.get_item(_tag(attribute)).value
        pieces = raw.count(_ITEM) if isinstance(raw, bytes) else 0
        if pieces > _PIECES and pieces * _LEAST_PIECE > len(raw):
            raise self.error(attribute, "be a sequence of items", f"{pieces} empty ones")
        value = self._dataset[_tag(attribute)].value
        if not isinstance(value, Sequence):
            raise self.error(attribute, "be a sequence", type(value).__name__)
        return tuple(Elements(item, self.path) for item in value)

    def _bytes(self, attribute: str | int) -> bytes:
        tag = _tag(attribute)
        if tag not in self._dataset:
            return b""
        value = self._dataset.get_item(tag).value
        if value is None or value == "":
            return b""
        if not isinstance(value, bytes) or len(value) > _LONGEST:
            kind = f"{len(value)} bytes" if isinstance(value, bytes) else "a sequence"
            raise self.error(attribute, f"be a value of at most {_LONGEST} bytes", kind)
        return value

    def _unpacked(self, attribute: str | int, code: str) -> tuple[float, ...]:
        value = self._bytes(attribute)
        if not value:
            return ()
        width = struct.calcsize(f"<{code}")
        if len(value) % width:
            raise self.error(attribute, f"have {width} bytes a value", f"{len(value)} bytes")
        return struct.unpack(f"{self._order(attribute)}{len(value) // width}{code}", value)

    def _order(self, attribute: str | int) -> str:
        little = getattr(self._dataset.get_item(_tag(attribute)), "is_little_endian", True)
        return "<" if little else ">"


def _tag(attribute: str | int) -> int:
    if isinstance(attribute, int):
        return attribute
    tag = tag_for_keyword(attribute)
    if tag is None:
        msg = f"attribute must be a keyword of DICOM; got {attribute!r}."
        raise ValueError(msg)
    return tag


def _representation(attribute: str | int) -> str:
    """Return the value representation: the standard's, not the file's, which may be UN."""
    tag = _tag(attribute)
    return _PRIVATE[tag] if tag in _PRIVATE else dictionary_VR(tag)


_PRIVATE = {0x0019100C: "IS", 0x0019100E: "FD", 0x20011003: "FL", 0x00431039: "IS"}
"""Value representation of the private attributes that are read: Siemens, Philips, GE diffusion."""


def _described(attribute: str | int) -> str:
    tag = _tag(attribute)
    name = attribute if isinstance(attribute, str) else "private"
    return f"{name} ({tag >> 16:04X},{tag & 0xFFFF:04X})"
