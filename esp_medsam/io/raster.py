"""PNG, JPEG, TIFF and BMP: photographs and 8- or 16-bit images without geometry."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageFile
from PIL.ExifTags import Base
from PIL.Image import Transpose
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COMPRESSION,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
)

from esp_medsam.errors import (
    CorruptFileError,
    FormatError,
    NonFiniteError,
    ReadError,
    TooLargeError,
)
from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.io import jpeg_data, png, tiff
from esp_medsam.io.tiff_strips import check_unpacked
from esp_medsam.memory import NOTHING, Beside, check_fits
from esp_medsam.quiet import quietly
from esp_medsam.regular_file import open_regular


_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")

_TRANSPARENT = "The picture is partly transparent; it was laid on black."

_DAMAGE = (
    OSError,
    SyntaxError,
    struct.error,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
)
"""Errors that Pillow raises for damaged files; it raises SyntaxError for a broken chunk."""

_GRAY = frozenset({"L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})

_DEEP = _GRAY - {"L", "F"}
"""Gray modes of more than 8 bits."""

_READING = 20
"""Bytes per pixel during reading: decoded (a JPEG twice), rotated and split into channels."""

_HELD = 4
"""Bytes per pixel afterwards: three of color, or one deep gray value."""

_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""Operation that makes a picture upright, by its EXIF orientation."""


def read_raster(path: Path, beside: Beside = NOTHING, *, indices: bool = False) -> Image:
    """Return the picture at ``path`` as displayed: upright by its EXIF orientation, alpha on black.

    Gray pictures have one channel in the type of the file (uint8, uint16, int32 or float32),
    all others have three of uint8: palettes are looked up, CMYK and YCbCr become RGB.

    Args:
        path: The file.
        beside: What must fit in memory in addition to the picture.
        indices: Whether a picture with a palette keeps its indices, which are the values of a label
            map, instead of its colors.

    Raises:
        FormatError: If it has none of the formats, or holds several pages or frames.
        CorruptFileError: If it is damaged or cut short.
        TooLargeError: If it holds more pixels than Pillow or the memory allows.
        NonFiniteError: If it holds NaN or infinity.
        OSError: If the system cannot read it.
    """
    notes: list[str] = []
    try:
        with quietly(), open_regular(path) as file:
            pixels = _read(file, path, beside, notes, indices=indices)
    except PIL.UnidentifiedImageError as error:
        msg = (
            f"{path} must be PNG, JPEG, TIFF or BMP of 8 or 16 bits, gray or in color; "
            "its content is none of them."
        )
        raise FormatError(msg) from error
    except PIL.Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except ReadError:
        raise
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # from the system, not Pillow: the file is unreadable
        msg = f"{path} must be a whole picture; it is damaged or cut short. Copy it again."
        raise CorruptFileError(msg) from error
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        msg = f"{path} must hold finite numbers; it has NaN or infinite pixels."
        raise NonFiniteError(msg)
    grid = Grid(shape=pixels.shape[1:])
    return Image(
        path=os.fspath(path), name=path.name, grid=grid, pixels=pixels, warnings=tuple(notes)
    )


def _read(
    file: BinaryIO, path: Path, beside: Beside, notes: list[str], *, indices: bool
) -> npt.NDArray[Any]:
    """Return the pixels of a picture after checking that none is missing.

    Pillow fills missing pixels with black or gray, and allocates whatever size is claimed.
    """
    source, data = file, b""
    beginning = file.read(len(png.SIGNATURE))
    if beginning == png.SIGNATURE:
        header = png.read_header(file, path)
        _check_size(header.width, header.height, path, beside)
        file.seek(len(png.SIGNATURE))
        source = png.picture_alone(file, header, path)
    elif beginning.startswith(jpeg_data.SIGNATURE):
        check_fits(path, file.seek(0, os.SEEK_END), "the file")
        file.seek(0)
        data = jpeg_data.picture_alone(file.read(), path)
        source = io.BytesIO(data)
    elif beginning.startswith(tiff.SIGNATURES):
        layout = tiff.read_layout(file, path)
        _check_size(layout.width, layout.height, path, beside)
        for part in tiff.jpegs(file, layout):
            jpeg_data.check_part(part, layout.most_pixels, path)
        check_unpacked(file, layout, path)
    with PIL.Image.open(source, formats=_FORMATS) as picture:
        _check_size(picture.width, picture.height, path, beside)
        _check(picture, path)
        if data:
            jpeg_data.check_whole(data, picture, path)
        return _upright(picture, path, notes, indices=indices)


def _check_size(width: int, height: int, path: Path, beside: Beside) -> None:
    """Refuse more pixels than Pillow's limit, or than fit in memory, before decoding any."""
    limit = 2 * (PIL.Image.MAX_IMAGE_PIXELS or 0)
    if 0 < limit < width * height:
        raise _too_large(path, f"; got {width:,} x {height:,}")
    pixels = width * height
    check_fits(path, _READING * pixels, f"reading its {width:,} x {height:,} pixels")
    check_fits(path, _HELD * pixels, f"its picture of {width:,} x {height:,}", beside, pixels)


def _too_large(path: Path, found: str = "") -> TooLargeError:
    limit = 2 * (PIL.Image.MAX_IMAGE_PIXELS or 0)
    return TooLargeError(
        f"{path} must have at most {limit:,} pixels{found}. Crop it or scale it down."
    )


def read_raster_size(path: Path) -> tuple[int, int]:
    """Return rows and columns of the picture at ``path``, as its header states them.

    The picture is not decoded. If EXIF that states a rotation follows the pixels, as it may in a
    PNG, rows and columns may be swapped.

    Raises:
        CorruptFileError: If its header is damaged.
        FormatError: If it has none of the formats.
        OSError: If the system cannot read it.
    """
    try:
        with (
            quietly(),
            open_regular(path) as file,
            PIL.Image.open(file, formats=_FORMATS) as picture,
        ):
            # If a PNG has no EXIF yet, Pillow would decode its pixels to look for EXIF after them.
            is_stated = picture.format != "PNG" or "exif" in picture.info
            turn = picture.getexif().get(Base.Orientation) if is_stated else None
            is_upright = turn not in _TURNS or turn in (2, 3, 4)
            width, height = picture.size
            return (height, width) if is_upright else (width, height)
    except PIL.UnidentifiedImageError as error:
        msg = f"{path} must be PNG, JPEG, TIFF or BMP; its content is none of them."
        raise FormatError(msg) from error
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        msg = f"{path} must be a whole picture; its header is damaged. Copy it again."
        raise CorruptFileError(msg) from error


def _check(picture: PIL.ImageFile.ImageFile, path: Path) -> None:
    """Refuse kinds of TIFF and BMP that Pillow opens but then misreads."""
    if picture.format == "BMP":
        _check_bmp(picture, path)
    if picture.format != "TIFF":
        return
    # Counting all pages may take minutes.
    if getattr(picture, "is_animated", False):
        raise png.several_pictures(path)
    bits = max(_tags(picture, BITSPERSAMPLE) or (1,))
    is_in_planes = _tag(picture, PLANAR_CONFIGURATION) == 2 and _tag(picture, COMPRESSION) == 1
    reason = ""
    if picture.mode not in _GRAY and bits > 8 and is_in_planes:
        reason = "its 16-bit colors are stored plane by plane"
    elif bits == 8 and _tag(picture, SAMPLEFORMAT) == 2:
        reason = "its 8-bit values have signs"
    elif picture.mode == "F" and _tag(picture, PHOTOMETRIC_INTERPRETATION) == 0:
        reason = "its values are fractions whose 0 is white"
    if reason:
        msg = f"{path} must be a TIFF that is read exactly; {reason}. Save it as PNG."
        raise FormatError(msg)


def _check_bmp(picture: PIL.ImageFile.ImageFile, path: Path) -> None:
    """Refuse a BMP that is cut short, or run-length encoded, because then rows may be missing."""
    (tile,) = picture.tile
    if tile.codec_name != "raw":
        msg = f"{path} must be a BMP without run-length encoding; it has some. Save it as PNG."
        raise FormatError(msg)
    assert picture.fp is not None, "it was just opened"
    assert isinstance(tile.args, tuple), "that of a BMP states how long a row is"
    end = tile.offset + int(tile.args[1]) * picture.height
    if end > picture.fp.seek(0, os.SEEK_END):
        msg = f"{path} must be a whole picture; rows of it are missing. Copy it again."
        raise CorruptFileError(msg)


def _tags(picture: PIL.Image.Image, number: int) -> tuple[Any, ...]:
    value = getattr(picture, "tag_v2", {}).get(number)
    return () if value is None else value if isinstance(value, tuple) else (value,)


def _tag(picture: PIL.Image.Image, number: int) -> Any:
    """Return the first value of a TIFF tag; None if there is none."""
    return next(iter(_tags(picture, number)), None)


def _unsigned(pixels: npt.NDArray[Any], *, is_white_zero: bool) -> npt.NDArray[Any]:
    """Return deep gray as its file means it: Pillow takes 32 bits as signed and 0 as black."""
    if pixels.dtype == np.int32:
        pixels = pixels.view(np.uint32)
    if is_white_zero:
        pixels = np.iinfo(pixels.dtype).max - pixels
    if pixels.dtype != np.uint32:
        return pixels
    return pixels.astype(np.int32 if pixels.max() <= np.iinfo(np.int32).max else np.float32)


def _is_deep_color(picture: PIL.Image.Image) -> bool:
    """Whether Pillow is about to drop the low byte of 16-bit colors."""
    if picture.mode not in ("RGB", "RGBA"):
        return False
    return any(";16" in _raw_mode(tile) for tile in getattr(picture, "tile", ()))


def _raw_mode(tile: Any) -> str:
    arguments = tile[3]
    first = arguments[0] if isinstance(arguments, Sequence) and arguments else ""
    return arguments if isinstance(arguments, str) else str(first)


def _upright(
    picture: PIL.Image.Image, path: Path, notes: list[str], *, indices: bool
) -> npt.NDArray[Any]:
    """Return ``(C, rows, columns)``, rotated as EXIF says, with the values that the file means."""
    if _is_deep_color(picture):
        notes.append("The 16-bit colors were read as 8-bit.")
    is_white_zero = _tag(picture, PHOTOMETRIC_INTERPRETATION) == 0
    is_unsigned = picture.mode in _DEEP and _tag(picture, SAMPLEFORMAT) in (None, 1)
    picture.load()  # only then is EXIF after the pixels known, and a TIFF rotated
    turn = _TURNS.get(picture.getexif().get(Base.Orientation, 1))
    turned = picture if turn is None else picture.transpose(turn)
    if turned.mode == "P" and indices:
        return np.array(turned)[np.newaxis]
    pixels = _pixels(turned, path, notes)
    return _unsigned(pixels, is_white_zero=is_white_zero) if is_unsigned else pixels


def _pixels(picture: PIL.Image.Image, path: Path, notes: list[str]) -> npt.NDArray[Any]:
    """Return ``(C, rows, columns)`` of a decoded picture; note changes to its colors."""
    if picture.mode == "1":
        picture = picture.convert("L")
    if picture.has_transparency_data and picture.mode not in _DEEP:
        return _on_black(picture, notes)
    if picture.mode not in _GRAY | {"RGB"}:
        picture = _to_rgb(picture, path)
    if picture.mode == "RGB":
        return _stacked(picture.getchannel(band) for band in picture.getbands())
    array = np.array(picture)
    if array.dtype.byteorder not in "=|":
        array = array.astype(array.dtype.newbyteorder("="))
    if picture.mode in _DEEP and "transparency" in picture.info:  # one value, stated by the PNG
        is_clear = array == picture.info["transparency"]
        array[is_clear] = 0
        notes += [_TRANSPARENT] if is_clear.any() else []
    return array[np.newaxis]


def _stacked(bands: Iterable[PIL.Image.Image]) -> npt.NDArray[np.uint8]:
    """Return bands, one after the other: Pillow's own array holds them twice, interleaved."""
    return np.stack([np.asarray(band) for band in bands])


def _on_black(picture: PIL.Image.Image, notes: list[str]) -> npt.NDArray[np.uint8]:
    """Return the picture without its alpha: dropped if everything is opaque, else laid on black."""
    mode = "LA" if picture.mode in ("L", "LA", "La") else "RGBA"
    layered = picture if picture.mode == mode else picture.convert(mode)
    *names, alpha_name = layered.getbands()
    alpha = layered.getchannel(alpha_name)
    bands = (layered.getchannel(name) for name in names)
    if alpha.getextrema() == (255, 255):
        return _stacked(bands)
    notes.append(_TRANSPARENT)
    black = PIL.Image.new("L", layered.size)
    return _stacked(PIL.Image.composite(band, black, alpha) for band in bands)


def _to_rgb(picture: PIL.Image.Image, path: Path) -> PIL.Image.Image:
    if picture.mode not in ("P", "CMYK", "YCbCr", "HSV", "RGBX", "LA", "PA", "RGBA"):
        msg = f"{path} must be gray or in color; got Pillow's mode {picture.mode}."
        raise FormatError(msg)
    return picture.convert("RGB")
