"""Read the pixels of a DICOM volume in the units that its files state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from esp_medsam.dicom.lookup import LookupTable, palette_of, table_of
from esp_medsam.dicom.modality import SOP_CLASS_MODALITIES
from esp_medsam.dicom.pixel_file import DECODING, PixelFile, explain_damage
from esp_medsam.dicom.units import HU, against_hu, is_hu, unit_text
from esp_medsam.dicom.values import narrowest, regions_of, rescale, wider_dtype, window_of
from esp_medsam.dicom.volume import DicomSlice, DicomVolume
from esp_medsam.errors import CorruptFileError, FormatError
from esp_medsam.image import UltrasoundRegion
from esp_medsam.memory import NOTHING, Beside, check_fits
from esp_medsam.quiet import quietly


RADIOGRAPHS = frozenset({"CR", "DX", "IO", "MG", "PX", "RF", "RG", "XA"})
"""Modalities whose images are readable only if shown as their files say."""

_GRAY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, kw_only=True, eq=False)
class DicomPixels:
    """The decoded pixel data of a volume.

    Attributes:
        pixels: ``(C, *spatial)``, C 1 or 3, spatial as in the volume's grid; uint8, int16,
            int32 or float32. Gray values are rescaled, and low values stay low even if they are
            shown white; colors are RGB.
        unit: ``"HU"`` if values are Hounsfield units, else None.
        other_unit: What would speak against Hounsfield units in a CT, in words.
        window: Values that a radiograph asks to be shown as black and white; None if not stated.
        inverted: Whether low values are shown white (MONOCHROME1).
        ultrasound_regions: Regions that the ultrasound machine calibrated.
        warnings: What a user should know, a sentence each.
    """

    pixels: npt.NDArray[Any]
    unit: str | None = None
    other_unit: str = ""
    window: tuple[float, float] | None = None
    inverted: bool = False
    ultrasound_regions: tuple[UltrasoundRegion, ...] = ()
    warnings: tuple[str, ...] = ()


def read_pixels(volume: DicomVolume, beside: Beside = NOTHING) -> DicomPixels:
    """Read, decode and rescale the pixels of a volume.

    Steps follow DICOM's order: the modality LUT, or each slice's own slope and intercept; then, for
    radiographs only, the VOI LUT if it is a table; otherwise the window is passed on. Padding keeps
    its rescaled value; a warning reports padding beyond Bits Stored.

    Args:
        volume: The volume as described by its headers.
        beside: What must fit in memory beside the volume.

    Raises:
        InputNotFoundError: If a file is gone.
        CorruptFileError: If pixel data is damaged, cut short, or not what the headers say.
        FormatError: If no installed decoder reads the data, the kind of colors is unknown, or the
            slices mix gray, inverted gray and color.
        NonFiniteError: If values are not finite after rescaling.
        TooLargeError: If the volume does not fit in memory.
    """
    places: dict[str, list[int]] = {}
    for place, piece in enumerate(volume.slices):
        places.setdefault(piece.source.path, []).append(place)
    with quietly():
        stack = _Stack(volume, beside)
        for path, of_file in places.items():
            with explain_damage(path):
                _read_file(path, sorted(of_file, key=lambda p: _index(volume.slices[p])), stack)
    return stack.result()


class _Stack:
    """The volume as it is filled, slice by slice.

    Its data type is widened when a slice needs it: the values of a whole series are rarely as
    narrow or as wide as its headers allow.
    """

    def __init__(self, volume: DicomVolume, beside: Beside) -> None:
        self.volume = volume
        self.beside, self.voxels = beside, math.prod(volume.grid.shape)
        self.pixels: npt.NDArray[Any] | None = None
        self.kind: str | None = None
        self.window: tuple[float, float] | None = None
        self.regions: tuple[UltrasoundRegion, ...] = ()
        self.notes: dict[str, None] = {}
        self.units: set[str] = set()

    def begin(self, source: PixelFile) -> None:
        """Take what applies to all files from the first, and check that the volume fits."""
        rows, columns = self.volume.slices[0].rows, self.volume.slices[0].columns
        self.regions, notes = regions_of(source.dataset, rows, columns)
        self.notes.update(dict.fromkeys(notes))
        if _is_radiograph(self.volume):
            self.window, notes = window_of(source.dataset)
            self.notes.update(dict.fromkeys(notes))
        is_palette = source.dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
        samples = 3 if is_palette or source.dataset.get("SamplesPerPixel") == 3 else 1
        width = min(4, -(-int(source.dataset.get("BitsAllocated") or 16) // 8))
        frame = rows * columns * samples * max(width, 1)
        count = len(self.volume.slices)
        what = f"its {count} x {rows} x {columns} pixels"
        check_fits(Path(source.path), (count + DECODING) * frame, what, self.beside, self.voxels)

    def place(self, number: int, values: npt.NDArray[Any], photometric: str) -> None:
        """Put one slice in its place in the volume."""
        piece = self.volume.slices[number]
        kind = photometric if photometric in _GRAY else "RGB"
        if values.shape[:2] != (piece.rows, piece.columns):
            found = " x ".join(str(length) for length in values.shape[:2])
            msg = f"{piece.where} must be {piece.rows} x {piece.columns} pixels; it is {found}."
            raise CorruptFileError(msg)
        if self.kind not in (None, kind):
            first = self.volume.slices[0].where
            msg = f"{piece.where} must be {self.kind}, as {first}; it is {kind}."
            raise FormatError(msg)
        self.kind = kind
        shape = (len(self.volume.slices), *values.shape)
        if self.pixels is None:
            self.pixels = np.empty(shape, dtype=values.dtype)
        dtype = wider_dtype(self.pixels.dtype, values.dtype)
        if dtype != self.pixels.dtype:
            size = self.pixels.size * dtype.itemsize
            what = f"its volume as {dtype.name}"
            check_fits(Path(piece.source.path), size, what, self.beside, self.voxels)
            self.pixels = self.pixels.astype(dtype)
        self.pixels[number] = values

    def result(self) -> DicomPixels:
        """Return the completed volume."""
        assert self.pixels is not None, "a volume has at least one slice"
        inverted = self.kind == "MONOCHROME1"
        is_gray = self.kind in _GRAY
        against = against_hu(self.units, self.volume.sop_class_uid) if is_gray else ("it is color",)
        unit = None if against else HU
        if is_gray and SOP_CLASS_MODALITIES.get(self.volume.sop_class_uid) == "CT":
            for reason in against:
                self.notes[f"The values were not read as Hounsfield units: {reason}."] = None
        if unit and inverted:
            note = (
                "The Hounsfield units are as stored, although the header asks to show low "
                "ones white."
            )
            self.notes[note] = None
        planes = self.pixels if self.pixels.ndim == 4 else self.pixels[..., None]
        return DicomPixels(
            pixels=np.moveaxis(self.volume.grid.from_planes(planes), -1, 0),  # channels first
            unit=unit,
            other_unit=" and ".join(against),
            window=self.window,
            inverted=inverted,
            ultrasound_regions=self.regions,
            warnings=tuple(self.notes),
        )


def _read_file(path: str, places: list[int], stack: _Stack) -> None:
    """Decode the frames of one file into their places."""
    source = PixelFile(path)
    if stack.pixels is None:
        stack.begin(source)
    slices = stack.volume.slices
    reader = _ValueReader(source.dataset, path, is_radiograph=_is_radiograph(stack.volume))
    indices = [_index(slices[place]) for place in places]
    for place, (frame, photometric) in zip(places, source.frames(indices), strict=True):
        stack.place(place, reader(frame, photometric, slices[place]), photometric)
        stack.units.add(reader.unit(slices[place]))
    stack.notes.update(source.notes)
    if reader.shown_by_table is not None and stack.volume.slices[0].source.path == path:
        stack.window = (0.0, float(2**reader.shown_by_table.bits - 1))


class _ValueReader:
    """What the values of the frames of one file mean."""

    def __init__(self, dataset: Dataset, path: str, *, is_radiograph: bool) -> None:
        photometric = str(dataset.get("PhotometricInterpretation") or "")
        self._dataset = dataset
        self.palette: LookupTable | None = None
        self.modality_table: LookupTable | None = None
        self.shown_by_table: LookupTable | None = None
        if photometric == "PALETTE COLOR":
            self.palette = palette_of(dataset, path)
        elif photometric in _GRAY:
            self.modality_table = table_of(dataset, "ModalityLUTSequence", path)
            if is_radiograph:
                self.shown_by_table = table_of(dataset, "VOILUTSequence", path)

    def __call__(
        self, frame: npt.NDArray[Any], photometric: str, piece: DicomSlice
    ) -> npt.NDArray[Any]:
        """Return the values of a decoded frame: ``(rows, columns)``, or with three colors."""
        if photometric == "PALETTE COLOR" and self.palette is not None:
            return self.palette(frame)
        if photometric == "RGB" and frame.ndim == 3:
            return narrowest(frame)
        if photometric not in _GRAY or frame.ndim != 2:
            msg = (
                f"{piece.where} must be MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB, YBR_FULL or "
                f"YBR_FULL_422, or JPEG 2000; got {photometric}."
            )
            raise FormatError(msg)
        if self.modality_table is not None:
            values = narrowest(self.modality_table(frame))
        else:
            values = rescale(frame, piece.slope, piece.intercept, source=piece.where)
        return values if self.shown_by_table is None else narrowest(self.shown_by_table(values))

    def unit(self, piece: DicomSlice) -> str:
        """Return ``HU``, what speaks against it, or an empty text if no unit is stated."""
        if self.modality_table is not None:
            kind = str(self._dataset.ModalityLUTSequence[0].get("ModalityLUTType") or "nothing")
            return HU if is_hu(kind) else f"Modality LUT Type says {unit_text(kind)}"
        if piece.rescale_type is not None:
            stated = piece.rescale_type
            return HU if is_hu(stated) else f"Rescale Type says {unit_text(stated)}"
        is_stated = piece.source.frame is not None or "RescaleIntercept" in self._dataset
        return "" if is_stated else "it has no Rescale Intercept"


def _index(piece: DicomSlice) -> int:
    """Return the index of the frame in its file, from 0."""
    return (piece.source.frame or 1) - 1


def _is_radiograph(volume: DicomVolume) -> bool:
    implied = SOP_CLASS_MODALITIES.get(volume.sop_class_uid)
    return implied in RADIOGRAPHS or (implied is None and volume.dicom_modality in RADIOGRAPHS)
