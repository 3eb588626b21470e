"""Decode the frames of a DICOM file with pydicom, after checking the file's claims."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import DataElement, Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import (
    JPEG2000TransferSyntaxes,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from esp_medsam.dicom.codecs import (
    codestream_size,
    components_of,
    decoder_of,
    missing_codec,
    name_of,
    safest_plugin,
)
from esp_medsam.dicom.colors import RGB, YBR, colors_of, without_application_data
from esp_medsam.dicom.dicom_file import PIXEL_TAGS, opened
from esp_medsam.dicom.elements import tags_of
from esp_medsam.dicom.limits import (
    check_described,
    check_values,
    frames_claimed,
)
from esp_medsam.dicom.packed_bits import PixelPacker, unpacked_frames
from esp_medsam.dicom.padding import PADDING_ATTRIBUTES, cut_to_stored, padding_of
from esp_medsam.dicom.pydicom_dataset import as_pydicom
from esp_medsam.dicom.stored_pixels import compressed_frames, native_pixels, syntax_of
from esp_medsam.dicom.whole_frame import wrong_after, wrong_before
from esp_medsam.errors import CorruptFileError, EspMedSamError, FormatError, TooLargeError


DECODING = 6
"""Peak memory of decoding a frame, as a multiple of the frame's size: codecs copy."""

_ITEMS = 64
"""Most items of a sequence passed to pydicom; only the first table or functional group is used."""

_PIECES, _FRAME_PIECES = 20_000, 200
"""Most elements and items of a header that is passed to pydicom whole, plus those per frame."""


class _Everything(Container[int]):
    """Container that holds every attribute tag."""

    def __contains__(self, tag: object) -> bool:
        return True


PIXEL_ATTRIBUTES = tags_of(
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData", "ModalityLUTSequence", "VOILUTSequence",
    "SequenceOfUltrasoundRegions", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    # In the items of these sequences
    "LUTDescriptor", "LUTData", "ModalityLUTType", "FrameVOILUTSequence", "RegionLocationMinX0",
    "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1", "RegionDataType",
    "RegionSpatialFormat",
) | PADDING_ATTRIBUTES  # fmt: skip
"""Attributes that determine how pixels are decoded, and what their values mean."""


class PixelFile:
    """The pixel data of a DICOM file, read in full, whose frames can be decoded.

    Args:
        path: The file.
        wanted: Tags of the header elements to read.

    Attributes:
        path: The file.
        elements: Header of the file.
        dataset: The header as a pydicom dataset.
        count: Number of frames in the file.
        syntax: Transfer syntax of the file.
        bits: Layout of the frames if they have one bit per pixel, are uncompressed, and end inside
            a byte; else None.
        notes: What a user should know about the frames decoded so far, a sentence each.

    Raises:
        InputNotFoundError: If there is no such file.
        ReadError: If the file cannot be read.
        CorruptFileError: If the file holds less than its header claims, or contradicts itself.
        FormatError: If the transfer syntax or kind of pixel data is not supported.
        TooLargeError: If the file does not fit in memory.
    """

    def __init__(self, path: str, wanted: frozenset[int] = PIXEL_ATTRIBUTES) -> None:
        self.path = path
        self.notes: dict[str, None] = {}
        with opened(path) as file:
            self.elements = file.elements(wanted)
            self.count = frames_claimed(self.elements)
            frames = check_described(self.elements, file, self.count)
            check_values(self.elements, is_compressed=frames is not None)
            self.syntax = syntax_of(file)
            self._decoder = decoder_of(self.syntax, path)
            self._compressed = None if frames is None else compressed_frames(file, frames)
            content, self.bits = b"", None
            if frames is None:
                content, self.bits = native_pixels(self.elements, file, self.count)
        if self.syntax.is_encapsulated != (frames is not None):
            stated = "compressed" if self.syntax.is_encapsulated else "not compressed"
            msg = f"{path} must hold pixels that are {stated}, as its transfer syntax says."
            raise CorruptFileError(msg)
        self.dataset = as_pydicom(self.elements.raw, _ITEMS)
        self._padding = padding_of(self.elements) if wanted >= PADDING_ATTRIBUTES else None
        self._native = content
        self._representation = file.pixels.representation or "OW"

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[npt.NDArray[Any], str]]:
        """Yield frames and their photometric interpretation.

        Args:
            indices: Indices of the wanted frames, from 0, ascending, at least one.

        Yields:
            ``(rows, columns)``, or ``(rows, columns, 3)`` for colors, converted to RGB if they
            were stored as YBR; signs and unused bits are corrected.

        Raises:
            CorruptFileError: If a frame is missing, damaged, cut short, or differs in size from
                the header.
            FormatError: If no installed package decodes the frame.
        """
        if indices[-1] >= self.count:
            msg = f"{self.path} must hold frame {indices[-1] + 1}; it holds {self.count}."
            raise CorruptFileError(msg)
        if self.bits is not None:
            photometric = self.elements.text("PhotometricInterpretation")
            for frame in unpacked_frames(self._native, self.bits, indices):
                yield frame, photometric
            return
        if self._compressed is None:
            yield from self._decoded_frames(self._native, indices)
            return
        # One by one: without an offset table, pydicom walks from the first frame each time.
        for index in indices:
            data = self._compressed[index]
            self._check_codestream(data, index)
            self._refuse(index, wrong_before(data, self.syntax))
            for frame, photometric in self._decoded_frame(data):
                self._refuse(index, wrong_after(data, frame))
                yield frame, photometric

    def whole(self) -> Dataset:
        """Return the whole file as a dataset for highdicom, which reads slides.

        Raises:
            CorruptFileError: If the header has more elements and items than its frames can need.
            EspMedSamError: If the file can no longer be read.
        """
        with opened(self.path) as file:
            file.skimmer.pieces = _PIECES + _FRAME_PIECES * self.count
            whole = as_pydicom(file.elements(_Everything()).raw, self.count + _ITEMS)
        if self._compressed is not None:
            return self._with_pixels(whole, encapsulate(self._compressed))
        return self._with_pixels(whole, self._without_gaps())

    def _without_gaps(self) -> bytes:
        """Return uncompressed pixels without gaps between frames, as the standard requires."""
        if self.bits is None or not self.bits.is_padded:
            return self._native
        packer = PixelPacker(1)
        for frame in unpacked_frames(self._native, self.bits, range(self.count)):
            packer.add(frame)
        return packer.finish()

    def _with_pixels(self, dataset: Dataset, content: bytes) -> Dataset:
        """Return a data set with pixel data in the form that pydicom expects."""
        is_compressed = self._compressed is not None
        representation = "OB" if is_compressed else self._representation
        element = DataElement(PIXEL_TAGS[0], representation, content, already_converted=True)
        element.is_undefined_length = is_compressed
        dataset[PIXEL_TAGS[0]] = element
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = self.syntax
        return dataset

    def _decoded_frame(self, data: bytes) -> Iterator[tuple[npt.NDArray[Any], str]]:
        """Yield one compressed frame, with its colors interpreted by its codestream."""
        plain = without_application_data(data) if self.syntax in JPEGTransferSyntaxes else data
        content = encapsulate([plain])
        if self.syntax == RLELossless or self.elements.integer("SamplesPerPixel") != 3:
            yield from self._decoded_frames(content, [0])
            return
        colors = colors_of(data, self.elements.code("PhotometricInterpretation") or "")
        if colors.note:
            self.notes[colors.note] = None
        # pydicom would convert the colors by its own criteria.
        for frame, _ in self._decoded_frames(content, [0], colors.photometric):
            if colors.photometric != YBR:
                yield frame, colors.photometric
            else:
                yield convert_color_space(frame, YBR, RGB), RGB

    def _decoded_frames(
        self, content: bytes, indices: Sequence[int], photometric: str | None = None
    ) -> Iterator[tuple[npt.NDArray[Any], str]]:
        """Yield frames of pixel data, which hold all frames or a single compressed frame.

        Args:
            content: The pixel data.
            indices: Indices of the frames, from 0.
            photometric: Photometric interpretation that replaces the header's; colors are then
                not converted.
        """
        dataset = self._with_pixels(as_pydicom(self.elements.raw, 0), content)
        dataset.NumberOfFrames = self.count if self._compressed is None else 1
        if self._compressed is not None:  # decoders give colors by pixel, whatever it states
            dataset.PlanarConfiguration = 0
        if photometric is not None:
            dataset.PhotometricInterpretation = photometric
        options: dict[str, Any] = {"allow_excess_frames": False}
        if self._padding is not None:
            options["correct_unused_bits"] = False
        # Without indices, pydicom fails on JPEG 2000 whose signs it corrects.
        decoded = self._decoder.iter_array(
            dataset,
            indices=list(indices),
            raw=photometric is not None,
            decoding_plugin=safest_plugin(self._decoder),
            **options,
        )
        try:
            for frame, properties in decoded:
                yield self._with_padding(frame), str(properties["photometric_interpretation"])
        except RuntimeError:  # all plugins failed; their messages may quote the header
            plugins = self._decoder.available_plugins
            if self.syntax == JPEGExtended12Bit and "pylibjpeg" not in plugins:
                # gdcm and Pillow do not decode 12 bits, although pydicom asks them.
                raise FormatError(missing_codec(self.syntax, self.path)) from None
            msg = (
                f"{self.path} must hold whole pixel data in {name_of(self.syntax)}; "
                f"{safest_plugin(self._decoder) or ', '.join(plugins)} cannot decode it. "
                "Copy it again."
            )
            raise CorruptFileError(msg) from None

    def _with_padding(self, frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a frame whose unused bits are corrected, except where they hold padding."""
        padding = self._padding
        if padding is None or 8 * frame.dtype.itemsize != padding.allocated:
            return frame
        frame = frame.astype(frame.dtype.newbyteorder("="), copy=False)
        found = padding.find(frame)
        # Codestreams of these syntaxes state their own precision, which pydicom leaves unchanged.
        is_whole = self.syntax in (*JPEG2000TransferSyntaxes, *JPEGLSTransferSyntaxes)
        values = frame if is_whole else cut_to_stored(frame, padding.stored)
        if found.any():
            self.notes[f"{padding.reason}; pixels of that value were read as padding."] = None
            held = np.iinfo(values.dtype)
            is_held = held.min <= padding.instead <= held.max
            wider = np.int32 if padding.allocated < 32 else np.int64
            values = values.copy() if is_held else values.astype(wider)
            values[found] = padding.instead
        elif (values[[0, 0, -1, -1], [0, -1, 0, -1]] == padding.when_cut).all():
            note = f"{padding.reason}; cut to {padding.when_cut}, it was read as a value."
            self.notes[note] = None
        return values

    def _refuse(self, index: int, wrong: str) -> None:
        """Refuse a frame if ``wrong`` says what is wrong with it."""
        if wrong:
            msg = f"{self.path} must hold whole frames; frame {index + 1} {wrong}. Copy it again."
            raise CorruptFileError(msg)

    def _check_codestream(self, data: bytes, index: int) -> None:
        """Refuse a frame whose claimed size differs from the header's."""
        if self.syntax == RLELossless:
            return
        claimed = self.elements.integer("Rows"), self.elements.integer("Columns")
        found = codestream_size(data)
        if found != claimed:
            got = "none" if found is None else f"{found[0]} x {found[1]}"
            msg = (
                f"{self.path} must hold frames of {claimed[0]} x {claimed[1]} pixels; "
                f"frame {index + 1} holds {got}."
            )
            raise CorruptFileError(msg)
        samples, components = self.elements.integer("SamplesPerPixel"), components_of(data)
        if components != samples:
            self._refuse(index, f"has {components} components, not {samples}")


@contextmanager
def explain_damage(path: str) -> Iterator[None]:
    """Turn any exception of pydicom and its decoders on damaged files into one of our errors.

    Their messages are dropped: they quote the header, which may name the patient.

    Args:
        path: The file being read.

    Raises:
        CorruptFileError: In place of any error that is not ours: ``ValueError``,
            ``AttributeError``, ``struct.error``, ``RecursionError`` and more.
        TooLargeError: If memory ran out.
    """
    try:
        yield
    except EspMedSamError:
        raise
    except MemoryError:
        msg = f"{path} must fit in memory; decoding it took more than is free."
        raise TooLargeError(msg) from None
    except Exception as error:
        kind = type(error).__name__
        msg = f"{path} must hold what its header says; decoding it ended in {kind}. Copy it again."
        raise CorruptFileError(msg) from None
