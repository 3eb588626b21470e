"""One DICOM file and the frames in it, decoded by pydicom; what it claims is checked first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.filereader import read_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    RLELossless,
)

from esp_medsam.dicom.claims import BoundedFile, inflated
from esp_medsam.dicom.codecs import codestream_size, decoder_of, missing_codec, name_of
from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    FormatError,
    InputNotFoundError,
    ReadError,
    TooLargeError,
)
from esp_medsam.memory import check_fits


DECODING = 6
"""Times the size of a frame that decoding it takes for a moment: codecs copy."""

_META_START = 128 + 4
"""Bytes before the file meta information: the preamble and the magic word."""


class PixelFile:
    """A DICOM file, read whole, whose frames can be decoded.

    Damaged files raise whatever pydicom raises; see :func:`explained`.

    Args:
        path: The file.

    Attributes:
        path: The file.
        dataset: All that is in it.
        syntax: Its transfer syntax.

    Raises:
        InputNotFoundError: If there is no such file.
        ReadError: If it cannot be read.
        CorruptFileError: If it has no pixel data.
        FormatError: If its transfer syntax or kind of pixel data is not read here.
        TooLargeError: If it does not fit in memory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.dataset = _read(path)
        if "FloatPixelData" in self.dataset or "DoubleFloatPixelData" in self.dataset:
            msg = f"{path} must hold whole numbers as Pixel Data; it holds floating-point ones."
            raise FormatError(msg)
        if "PixelData" not in self.dataset:
            msg = f"{path} must hold Pixel Data; it has none, or is cut short. Copy it again."
            raise CorruptFileError(msg)
        self.syntax = _syntax_of(self.dataset)
        self._decoder = decoder_of(self.syntax, path)

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[npt.NDArray[Any], str]]:
        """Yield frames and their photometric interpretation.

        Args:
            indices: Numbers of the frames wanted, from 0, ascending, at least one.

        Yields:
            ``(rows, columns)``, or ``(rows, columns, 3)`` of colors, converted to RGB where they
            were stored as YBR; signs and unused bits are corrected.

        Raises:
            CorruptFileError: If a frame is missing, or of another size than the header says.
            FormatError: If no package at hand decodes it.
        """
        if self.syntax.is_encapsulated:
            self._check_codestreams(indices)
        else:
            self._check_layout()
        # By index, though pydicom then walks to each frame from the start where there is no offset
        # table: without, it fails on JPEG 2000 whose signs it corrects.
        decoded = self._decoder.iter_array(
            self.dataset, indices=list(indices), allow_excess_frames=False
        )
        try:
            for frame, properties in decoded:
                yield frame, str(properties["photometric_interpretation"])
        except RuntimeError as error:  # every plugin at hand failed
            plugins = self._decoder.available_plugins
            if self.syntax == JPEGExtended12Bit and "pylibjpeg" not in plugins:
                # Of 12 bits, which gdcm and Pillow do not decode, though pydicom asks them.
                raise FormatError(missing_codec(self.syntax, self.path)) from error
            msg = (
                f"{self.path} must hold whole pixel data in {name_of(self.syntax)}; "
                f"{', '.join(plugins)} cannot decode it. Copy it again."
            )
            raise CorruptFileError(msg) from error

    def _check_layout(self) -> None:
        """Refuse values that lie elsewhere than the header says: pydicom would take wrong ones."""
        dataset = self.dataset
        allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
        high = int(dataset.get("HighBit", stored - 1))
        if stored < allocated and high != stored - 1:
            msg = (
                f"{self.path} must have a High Bit of Bits Stored - 1, {stored - 1}; got {high}. "
                "Convert it, as with gdcmconv --raw."
            )
            raise FormatError(msg)
        frames = int(dataset.get("NumberOfFrames") or 1)
        bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.SamplesPerPixel) * allocated
        if dataset.PhotometricInterpretation == "YBR_FULL_422":
            bits = bits * 2 // 3  # two pixels share their colors
        held = len(dataset.PixelData)
        found = 8 * held // max(bits, 1)
        whole = -(-bits * frames // 8)
        if found > frames and held > whole + whole % 2:  # beyond the byte that makes it even
            msg = (
                f"{self.path} must hold {frames} frames of pixels as its header says; its Pixel "
                f"Data is long enough for {found}. Its Bits Allocated or its size may be wrong."
            )
            raise CorruptFileError(msg)

    def _check_codestreams(self, indices: Sequence[int]) -> None:
        """Refuse frames that are missing, or that claim another size than the header."""
        claimed = (int(self.dataset.Rows), int(self.dataset.Columns))
        last = max(indices)
        wanted = set(indices)
        count = 0
        for index, data in enumerate(self._encoded_frames()):
            count = index + 1
            if index in wanted and self.syntax != RLELossless:
                found = codestream_size(data)
                if found != claimed:
                    got = "none" if found is None else f"{found[0]} x {found[1]}"
                    msg = (
                        f"{self.path} must hold frames of {claimed[0]} x {claimed[1]} pixels; "
                        f"frame {count} holds {got}."
                    )
                    raise CorruptFileError(msg)
            if index == last:
                return
        msg = f"{self.path} must hold frame {last + 1}; it holds {count}. Copy it again."
        raise CorruptFileError(msg)

    def _encoded_frames(self) -> Iterator[bytes]:
        """Yield the frames as they are in the file."""
        dataset = self.dataset
        offsets = None
        if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
            offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
        count = int(dataset.get("NumberOfFrames") or 1)
        return generate_frames(dataset.PixelData, number_of_frames=count, extended_offsets=offsets)


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn whatever pydicom and its decoders raise on damaged files into one of our errors.

    Args:
        path: The file that is read.

    Raises:
        CorruptFileError: In place of any error that is not ours: they raise ``ValueError``,
            ``AttributeError``, ``struct.error``, ``RecursionError`` and more.
        TooLargeError: If memory ran out.
    """
    try:
        yield
    except EspMedSamError:
        raise
    except MemoryError as error:
        msg = f"{path} must fit in memory; decoding it took more than is free."
        raise TooLargeError(msg) from error
    except Exception as error:
        words = " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
        msg = f"{path} must hold what its header says; got: {words}. Copy it again."
        raise CorruptFileError(msg) from error


def _read(path: str) -> Dataset:
    """Read the whole file, of which no more is asked for than there is."""
    try:
        check_fits(Path(path), Path(path).stat().st_size, "the file")
        with Path(path).open("rb") as stream:
            return _data_set(BoundedFile(stream), path)
    except FileNotFoundError as error:
        msg = f"{path} must be a file; there is none."
        raise InputNotFoundError(msg) from error
    except OSError as error:
        if error.strerror is None:  # pydicom's, of a damaged file; the system's has words
            raise
        msg = f"{path} must be readable; got: {error.strerror}."
        raise ReadError(msg) from error


def _data_set(file: BoundedFile, path: str) -> Dataset:
    """Let pydicom read the file, but for a deflated data set, which it would inflate unseen."""
    has_magic = file.read(_META_START)[-4:] == b"DICM"
    file.seek(_META_START if has_magic else 0)
    stream = cast(BinaryIO, file)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return dcmread(stream, force=True)
    dataset = read_dataset(cast(BinaryIO, inflated(file, path)), False, True)
    dataset.set_original_encoding(False, True)
    return dataset


def _syntax_of(dataset: Dataset) -> UID:
    """Return the transfer syntax, or the one that an uncompressed file without a word is in."""
    stated = getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")
    if stated:
        return UID(stated)
    is_implicit, is_little_endian = dataset.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian
