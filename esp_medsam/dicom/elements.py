"""Strict access to DICOM attributes: a value is valid, absent, or a clear error."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.uid import UID
from pydicom.valuerep import TEXT_VR_DELIMS

from esp_medsam.dicom.skim import RawDataset, RawElement
from esp_medsam.errors import CorruptFileError, EspMedSamError, FormatError


_LONGEST = 4096
"""Longest value in bytes that is read; no attribute used here needs a tenth of this."""

_DECIMAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
"""A Decimal String; Python's ``float`` would also accept underscores and ``nan``."""

_NOT_FINITE = ("nan", "inf", "+inf", "-inf", "infinity")

_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")

_BINARY = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d"}
"""Format characters of the binary value representations for :mod:`struct`."""


class Elements:
    """The attributes of a data set, or of an item of a sequence in it.

    Values are read from the bytes in the file, because pydicom's conversion warns, guesses or
    fails in its own ways.

    Args:
        raw: The data set.
        path: Path of the file, for messages.
    """

    def __init__(self, raw: RawDataset, path: str) -> None:
        self.path = path
        self.raw = raw

    def has(self, attribute: str | int) -> bool:
        """Whether the attribute is present and not empty."""
        element = self._element(attribute)
        return element is not None and element.value != b"" and element.value != ()

    def text(self, attribute: str | int) -> str:
        """Return a text without padding; empty if the attribute is absent."""
        return self._bytes(attribute).decode("latin-1").strip(" \0\t\r\n")

    def decoded(self, attribute: str | int, characters: Sequence[str]) -> str:
        """Return a text in the character set that its file states.

        Args:
            attribute: The attribute.
            characters: Specific Character Set; bytes that it cannot decode are replaced.
        """
        encodings = convert_encodings(list(characters) or None)
        text: str = decode_bytes(self._bytes(attribute), encodings, TEXT_VR_DELIMS)
        return text.strip(" \0")

    def texts(self, attribute: str | int) -> tuple[str, ...]:
        """Return the values of a text; empty if the attribute is absent."""
        text = self.text(attribute)
        return tuple(part.strip() for part in text.split("\\")) if text else ()

    def uid(self, attribute: str | int) -> str | None:
        """Return a UID; None if the attribute is absent or empty.

        Raises:
            FormatError: If the value is not a UID.
        """
        text = self.text(attribute)
        if not text:
            return None
        if not is_uid(text):
            rule = "be a UID, digits and dots up to 64 characters"
            raise self.error(attribute, rule, length_of(text))
        return text

    def uid_or_none(self, attribute: str | int) -> str | None:
        """Return a UID; None if the value is absent or not a UID."""
        text = self.text(attribute)
        return text if is_uid(text) else None

    def code(self, attribute: str) -> str | None:
        """Return a code string; None if the attribute is absent or empty.

        Raises:
            FormatError: If the value is not a code string.
        """
        text = self.text(attribute)
        if text and not is_code(text):
            rule = "be a code, up to 16 capital letters, digits, spaces and underscores"
            raise self.error(attribute, rule, length_of(text))
        return text or None

    def integer(self, attribute: str, *, least: int = 0) -> int | None:
        """Return one whole number; None if the attribute is absent.

        Raises:
            FormatError: If the value is not a whole number, or is below ``least``.
        """
        values = self.numbers(attribute, 1)
        if values is None:
            return None
        if values[0] < least or values[0] > 2**31 or values[0] != int(values[0]):
            rule = f"be a whole number from {least}"
            raise self.error(attribute, rule, f"{values[0]:g}")
        return int(values[0])

    def integer_or_none(self, attribute: str) -> int | None:
        """Return one whole number that is not essential; None if it is absent or invalid."""
        try:
            return self.integer(attribute)
        except FormatError:
            return None

    def numbers(
        self, attribute: str | int, count: int, error: type[EspMedSamError] = FormatError
    ) -> tuple[float, ...] | None:
        """Return ``count`` finite numbers, written as text or binary; None if absent.

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
            got = _numbers_shown(parts) or (length_of(self.text(attribute)) if parts else "")
        else:
            values = self._unpacked_numbers(attribute, code)
            got = "\\".join(f"{value:g}" for value in values)
        if got and (len(values) != count or not all(map(math.isfinite, values))):
            number = "a finite number" if count == 1 else f"{count} finite numbers"
            raise self.error(attribute, f"be {number}", got, error)
        return values if got else None

    def decimals(self, attribute: str) -> npt.NDArray[np.float64]:
        """Return all numbers of a Decimal String, which must be finite; empty if it is absent.

        Raises:
            FormatError: If a value is not a finite number.
        """
        element = self._element(attribute)
        if element is None or not element.value:
            return np.empty(0)
        content = element.value if isinstance(element.value, bytes) else b"?"
        parts = [part.strip() for part in content.decode("latin-1").strip(" \0").split("\\")]
        values = np.array([float(p) if _DECIMAL.fullmatch(p) else math.nan for p in parts])
        if not np.isfinite(values).all():
            rule = "be finite numbers"
            raise self.error(attribute, rule, length_of(content.decode("latin-1")))
        return values

    def number(self, attribute: str, error: type[EspMedSamError] = FormatError) -> float | None:
        """Return one finite number; None if the attribute is absent.

        Raises:
            EspMedSamError: An ``error`` if there are several numbers, or it is not finite.
        """
        values = self.numbers(attribute, 1, error)
        return None if values is None else values[0]

    def integers(self, attribute: str) -> tuple[int, ...]:
        """Return all binary whole numbers of an attribute; empty if it is absent."""
        return tuple(
            int(v) for v in self._unpacked_numbers(attribute, _BINARY[_representation(attribute)])
        )

    def tag(self, attribute: str) -> str:
        """Return the keyword of the attribute that this one points to; empty if unknown."""
        value = self._bytes(attribute)
        if len(value) != 4:
            return ""
        group, element = struct.unpack(f"{self._order}HH", value)
        return keyword_for_tag(group << 16 | element)

    def items(self, attribute: str) -> tuple[Elements, ...]:
        """Return the items of a sequence; empty if the attribute is absent.

        Raises:
            CorruptFileError: If the items cannot be parsed.
        """
        element = self._element(attribute)
        if element is None:
            return ()
        if isinstance(element.value, tuple):
            return tuple(Elements(item, self.path) for item in element.value)
        msg = f"{_attribute_name(attribute)} of {self.path} must be whole items; it is damaged."
        raise CorruptFileError(msg)

    def item(self, attribute: str) -> Elements | None:
        """Return the first item of a sequence; None if there is none."""
        return next(iter(self.items(attribute)), None)

    def error(
        self,
        attribute: str | int,
        rule: str,
        got: str,
        error: type[EspMedSamError] = FormatError,
    ) -> EspMedSamError:
        """Return the error that says what an attribute must be and what it is.

        Args:
            attribute: The attribute.
            rule: Rule that the attribute must follow.
            got: Its actual value, in words that cannot identify a person, as header text may.
            error: Class of the error.
        """
        shown = got if len(got) <= 40 else f"{got[:40]}..."
        msg = f"{_attribute_name(attribute)} of {self.path} must {rule}; got {shown}."
        return error(msg)

    def missing(self, attribute: str, error: type[EspMedSamError] = FormatError) -> EspMedSamError:
        """Return the error that says that an attribute is missing."""
        msg = f"{self.path} must state {_attribute_name(attribute)}; it is missing or empty."
        return error(msg)

    def _element(self, attribute: str | int) -> RawElement | None:
        tag = _tag(attribute)
        assert tag in self.raw.wanted, f"{attribute} was not asked for when the file was skimmed"
        return self.raw.elements.get(tag)

    def _bytes(self, attribute: str | int) -> bytes:
        element = self._element(attribute)
        if element is None:
            return b""
        value = element.value
        if not isinstance(value, bytes) or len(value) > _LONGEST:
            kind = f"{len(value)} bytes" if isinstance(value, bytes) else "a sequence"
            raise self.error(attribute, f"be a value of at most {_LONGEST} bytes", kind)
        return value

    def _unpacked_numbers(self, attribute: str | int, code: str) -> tuple[float, ...]:
        value = self._bytes(attribute)
        if not value:
            return ()
        width = struct.calcsize(f"<{code}")
        if len(value) % width:
            raise self.error(attribute, f"have {width} bytes a value", f"{len(value)} bytes")
        return struct.unpack(f"{self._order}{len(value) // width}{code}", value)

    @property
    def _order(self) -> str:
        return "<" if self.raw.encoding.little else ">"


def tags_of(*keywords: str) -> frozenset[int]:
    """Return the tags of attributes."""
    return frozenset(_tag(keyword) for keyword in keywords)


def standard_name(uid: str) -> str:
    """Return the standard's name for a UID, or the UID itself if it has no name.

    This avoids pydicom's warning about a malformed UID.
    """
    return str(UID(uid, validation_mode=IGNORE).name)


def length_of(text: str) -> str:
    """Return the length of an unknown text in words; the text itself may name a patient."""
    return f"text of {len(text)} character{'' if len(text) == 1 else 's'}"


def is_uid(text: str) -> bool:
    """Whether a text is a UID."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def is_code(text: str) -> bool:
    """Whether a text is a Code String."""
    return _CODE.fullmatch(text) is not None


def _numbers_shown(parts: Sequence[str]) -> str:
    """Return numbers in a uniform format; empty if one of the parts is not a number."""
    if not all(_DECIMAL.fullmatch(part) or part.lower() in _NOT_FINITE for part in parts):
        return ""
    return "\\".join(f"{float(part):g}" for part in parts)


@cache
def _tag(attribute: str | int) -> int:
    if isinstance(attribute, int):
        return attribute
    tag = tag_for_keyword(attribute)
    if tag is None:
        msg = f"attribute must be a keyword of DICOM; got {attribute!r}."
        raise ValueError(msg)
    return tag


@cache
def _representation(attribute: str | int) -> str:
    """Return the standard's value representation rather than the file's, which may be UN."""
    tag = _tag(attribute)
    return _PRIVATE[tag] if tag in _PRIVATE else dictionary_VR(tag)


_PRIVATE = {0x0019100C: "IS", 0x0019100E: "FD", 0x20011003: "FL", 0x00431039: "IS"}
"""Value representation of the private attributes that are read: Siemens, Philips, GE diffusion."""


def _attribute_name(attribute: str | int) -> str:
    tag = _tag(attribute)
    name = attribute if isinstance(attribute, str) else "private"
    return f"{name} ({tag >> 16:04X},{tag & 0xFFFF:04X})"
