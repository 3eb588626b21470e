"""Padding beyond Bits Stored, in pixels that a scanner left empty.

A padding of -2000 takes all 16 bits. If 12 bits are stored, cutting the padding to 12 bits, which
is right for other values, turns it into bone. Padding within Bits Stored keeps its value.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esp_medsam.dicom.elements import Elements, tags_of
from esp_medsam.dicom.modality import SOP_CLASS_MODALITIES


PADDING_ATTRIBUTES = tags_of(
    "PixelPaddingValue", "PixelPaddingRangeLimit", "Modality", "SOPClassUID"
)
"""Attributes that say which values are padding, and in what kind of image."""

_VALUE, _LIMIT = 0x00280120, 0x00280121

_NUMBERS = (None, "US", "SS", "UN", "OW", "UL", "SL")
"""Value representations that padding is written in; None if the file does not state one."""


@dataclass(frozen=True, kw_only=True)
class Padding:
    """Padding with bits beyond Bits Stored.

    Attributes:
        value: Pixel Padding Value (0028,0120), as an unsigned word.
        limit: Pixel Padding Range Limit (0028,0121), likewise; equals ``value`` if missing.
        allocated: Bits Allocated, 8, 16 or 32.
        stored: Bits Stored.
        is_signed: Whether stored values have a sign.
        is_negative: Whether padding words with the highest bit set are negative although values
            have no sign.
        instead: The value that replaces the padding.
    """

    value: int
    limit: int
    allocated: int
    stored: int
    is_signed: bool
    is_negative: bool
    instead: int

    def find(self, words: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return where words, as they are in the file, are padding beyond Bits Stored.

        Args:
            words: Words of any shape, of Bits Allocated, in this machine's byte order.
        """
        plain = words.view(f"u{words.dtype.itemsize}")
        signed = words.view(f"i{words.dtype.itemsize}")
        ends = sorted((self.value, self.limit))
        signed_ends = sorted(_signed(end, self.allocated) for end in ends)
        # A range across zero consists of signed numbers, whatever the pixel values are.
        if signed_ends[1] - signed_ends[0] < ends[1] - ends[0]:
            found = (signed >= signed_ends[0]) & (signed <= signed_ends[1])
        else:
            found = (plain >= ends[0]) & (plain <= ends[1])
        if found.any():
            beyond = cut_to_stored(words, self.stored) != words
            found &= (beyond | (signed < 0)) if self.is_negative else beyond
        return found

    @property
    def reason(self) -> str:
        """Beginning of a sentence that says what is wrong with the padding."""
        if self.when_cut == self.ends[0]:
            return "Pixel Padding Value is signed, the pixel values are not"
        return f"Pixel Padding Value does not fit in {self.stored} Bits Stored"

    @property
    def when_cut(self) -> int:
        """Value of the padding if a writer cut it to Bits Stored."""
        return int(cut_to_stored(self.ends[:1], self.stored)[0])

    @property
    def ends(self) -> npt.NDArray[Any]:
        """Value and limit, ``(2,)`` in the type of stored values."""
        words = np.array([self.value, self.limit], f"u{self.allocated // 8}")
        return words.view(f"i{self.allocated // 8}") if self.is_signed else words


def padding_of(elements: Elements) -> Padding | None:
    """Return the padding of a gray image; None if there is none beyond Bits Stored.

    Padding is replaced by the least storable value, or the greatest if that is shown black. In CT,
    where the least value may be water, padding keeps its sign: -2000 stays -2000.

    Args:
        elements: The header, with :data:`PADDING_ATTRIBUTES` and the description of its pixels.
    """
    allocated, stored = elements.integer("BitsAllocated"), elements.integer("BitsStored")
    gray = elements.text("PhotometricInterpretation")
    if allocated not in (8, 16, 32) or not stored or not gray.startswith("MONOCHROME"):
        return None
    value, has_sign = _word(elements, _VALUE, allocated)
    if value is None:
        return None
    limit, _ = _word(elements, _LIMIT, allocated)
    limit = value if limit is None else limit
    is_signed = elements.integer("PixelRepresentation") == 1
    implied = SOP_CLASS_MODALITIES.get(elements.text("SOPClassUID"))
    is_ct = "CT" in (implied, elements.text("Modality").upper())
    is_negative = not is_signed and (has_sign or is_ct)
    least, most = -(2 ** (stored - 1)) if is_signed else 0, 2 ** (stored - is_signed) - 1
    instead = most if gray == "MONOCHROME1" and not is_ct else least
    signed = _signed(value, allocated), _signed(limit, allocated)
    padding = Padding(
        value=value,
        limit=limit,
        allocated=allocated,
        stored=stored,
        is_signed=is_signed,
        is_negative=is_negative,
        instead=min(instead, *signed) if is_ct else instead,
    )
    return padding if padding.find(padding.ends).any() else None


def cut_to_stored(words: npt.NDArray[Any], stored: int) -> npt.NDArray[Any]:
    """Return words without the bits beyond Bits Stored, with signs extended."""
    shift = 8 * words.dtype.itemsize - stored
    shifted: npt.NDArray[Any] = np.right_shift(np.left_shift(words, shift), shift)
    return shifted


def _word(elements: Elements, tag: int, allocated: int) -> tuple[int | None, bool]:
    """Return an attribute as a word of the pixels' width, and whether it was written as negative.

    The word is None if the attribute is not a number: a bad padding value refuses no file.
    """
    element = elements.raw.elements.get(tag)
    if element is None or element.representation not in _NUMBERS:
        return None, False
    value, has_sign = element.value, element.representation in ("SS", "SL")
    if not isinstance(value, bytes) or len(value) not in (2, 4):
        return None, False
    code = {2: "h", 4: "l"}[len(value)] if has_sign else {2: "H", 4: "L"}[len(value)]
    (number,) = struct.unpack(f"{'<' if elements.raw.encoding.little else '>'}{code}", value)
    if not -(2 ** (allocated - 1)) <= number < 2**allocated:
        return None, False
    return number % 2**allocated, has_sign and number < 0


def _signed(word: int, bits: int) -> int:
    return word - 2**bits if word >= 2 ** (bits - 1) else word
