"""Read lookup tables exactly: modality LUT, VOI LUT and palette."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut

from esp_medsam.errors import CorruptFileError


class LookupTable(NamedTuple):
    """A table that maps stored values to other values, as DICOM describes it.

    Attributes:
        first: Stored value that the first entry stands for.
        entries: ``(n,)``, or ``(n, 3)`` for a palette.
        bits: Bits of an entry.
    """

    first: int
    entries: npt.NDArray[Any]
    bits: int

    def __call__(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the entry of each value, or the nearest end entry for values beyond the table.

        Args:
            values: Values of any shape; fractions are rounded.

        Returns:
            Array with the shape of ``values`` plus that of an entry, in the type of the entries.
        """
        last = self.first + len(self.entries) - 1
        whole = values if values.dtype.kind in "iu" else np.rint(values)
        index = np.clip(whole.astype(np.int64), self.first, last) - self.first
        found: npt.NDArray[Any] = self.entries[index]
        return found


def table_of(dataset: Dataset, keyword: str, source: str) -> LookupTable | None:
    """Return the first table in the sequence ``keyword``; None if the file has none.

    pydicom applies these tables too, but wraps values if there are more than 256 8-bit entries.

    Args:
        dataset: Dataset of the file.
        keyword: ``ModalityLUTSequence`` or ``VOILUTSequence``.
        source: The file, for messages.

    Raises:
        CorruptFileError: If the table is not what its descriptor says.

    Reference:
        DICOM PS3.3 C.11.1.1 and C.11.2.1.1.
    """
    items = dataset.get(keyword)
    if not items:
        return None
    item = items[0]
    count, first, bits = _descriptor(item.get("LUTDescriptor"), keyword, source)
    entries = _entries(item.get("LUTData"), count, _byte_order(dataset))
    if entries is None:
        msg = f"{source} must hold {count} entries in {keyword}; it holds fewer. Copy it again."
        raise CorruptFileError(msg)
    return LookupTable(first, entries, max(bits, int(entries.max()).bit_length()))


def palette_of(dataset: Dataset, source: str) -> LookupTable:
    """Return the colors of a ``PALETTE COLOR`` image: ``(n, 3)`` uint8.

    The upper eight bits of 16-bit colors are kept, unless all values are below 256: some writers
    put 8-bit colors into 16-bit entries.

    Args:
        dataset: Dataset of the file.
        source: The file, for messages.

    Raises:
        CorruptFileError: If the file has no palette, or fewer entries than it states.

    Reference:
        DICOM PS3.3 C.7.6.3.1.5, C.7.6.3.1.6 and C.7.9.2.
    """
    name = "PaletteColorLookupTable"
    descriptor = dataset.get(f"Red{name}Descriptor")
    count, first, bits = _descriptor(descriptor, f"its {name}", source)
    if f"SegmentedRed{name}Data" in dataset:
        # Indices starting at `first` yield the expanded table itself.
        stored = np.arange(first, first + count, dtype=np.int32)
        entries = apply_color_lut(stored, dataset)[..., :3]
    else:
        order = _byte_order(dataset)
        colors = [
            _entries(dataset.get(f"{color}{name}Data"), count, order)
            for color in ("Red", "Green", "Blue")
        ]
        if any(color is None for color in colors):
            msg = f"{source} must hold {count} colors in its {name}; it holds fewer. Copy it again."
            raise CorruptFileError(msg)
        entries = np.stack(colors, axis=-1)  # type: ignore[arg-type]  # none is None here
    if entries.max() > 255:
        entries = entries >> 8
    return LookupTable(first, entries.astype(np.uint8), bits)


def _descriptor(value: Any, what: str, source: str) -> tuple[int, int, int]:
    """Return the number of entries, the value of the first, and the bits of each."""
    numbers = list(value) if isinstance(value, list | tuple) or hasattr(value, "__iter__") else []
    if len(numbers) == 3 and all(isinstance(number, int) for number in numbers):
        count, first, bits = numbers
        if 0 <= count <= 0xFFFF and 1 <= bits <= 16:
            return count or 2**16, first, bits  # 0 stands for 2 ** 16, which 16 bits cannot hold
    msg = f"{source} must describe {what} by three numbers; it does not. Copy it again."
    raise CorruptFileError(msg)


def _entries(data: Any, count: int, order: str) -> npt.NDArray[Any] | None:
    """Return ``count`` entries of 8 or 16 bits, by the length of data; None if there are fewer."""
    if isinstance(data, bytes | bytearray):
        if len(data) >= 2 * count:
            words = np.frombuffer(data, dtype=f"{order}u2", count=count)
            return words.astype(np.uint16)
        return np.frombuffer(data, dtype=np.uint8, count=count) if len(data) >= count else None
    numbers = [data] if isinstance(data, int) else list(data or ())
    if len(numbers) < count:
        return None
    return (np.asarray(numbers[:count], dtype=np.int64) & 0xFFFF).astype(np.uint16)


def _byte_order(dataset: Dataset) -> str:
    """Return NumPy's character for the byte order of the file."""
    _, is_little_endian = dataset.original_encoding
    return ">" if is_little_endian is False else "<"
