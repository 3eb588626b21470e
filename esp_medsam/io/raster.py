"""PNG, JPEG, TIFF and BMP: photographs and 8- or 16-bit images without geometry."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps
import PIL.PngImagePlugin
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COMPRESSION,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
)

from esp_medsam.errors import CorruptFileError, FormatError, NonFiniteError, TooLargeError
from esp_medsam.io.atomic import MARK, atomic_file
from esp_medsam.io.content import Content
from esp_medsam.memory import check_fits
from esp_medsam.quiet import quietly


_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")

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
"""What Pillow raises on damaged files; SyntaxError is its own way to say a broken chunk."""

_GRAY = frozenset({"L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})


_DEEP = _GRAY - {"L", "F"}
"""Gray of more than 8 bits."""


def read_raster(path: Path) -> Content:
    """Return the picture at ``path`` as shown: upright by its EXIF orientation, alpha on black.

    Gray pictures have one channel in the type of the file (uint8, uint16, int32 or float32),
    all others three of uint8: palettes are looked up, CMYK and YCbCr become RGB.

    Raises:
        FormatError: If it is none of the formats, or holds several pages or frames.
        CorruptFileError: If it is damaged or cut short.
        TooLargeError: If it holds more pixels than Pillow's limit or memory.
        NonFiniteError: If it holds NaN or infinity.
    """
    notes: list[str] = []
    try:
        # Pillow warns from half its limit on; at the limit it raises, which is handled below. Given
        # a path, it maps a plain TIFF into memory, and garbles one that is turned.
        with quietly(), path.open("rb") as file, PIL.Image.open(file, formats=_FORMATS) as picture:
            _check(picture, path)
            _check_planes(picture, path)
            pixels = _upright(picture, path, notes)
    except PIL.Image.DecompressionBombError as error:
        limit = 2 * (PIL.Image.MAX_IMAGE_PIXELS or 0)
        msg = f"{path} must have at most {limit:,} pixels. Crop it or scale it down."
        raise TooLargeError(msg) from error
    except PIL.UnidentifiedImageError as error:
        msg = (
            f"{path} must be PNG, JPEG, TIFF or BMP of 8 or 16 bits, gray or in color; "
            "its content is none of them."
        )
        raise FormatError(msg) from error
    except (FormatError, TooLargeError):
        raise
    except _DAMAGE as error:
        msg = f"{path} must be a whole picture; it is damaged or cut short. Copy it again."
        raise CorruptFileError(msg) from error
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        msg = f"{path} must hold finite numbers; it has NaN or infinite pixels."
        raise NonFiniteError(msg)
    return Content(pixels=pixels, warnings=tuple(notes))


def write_labelmap_png(
    path: Path,
    labelmap: npt.NDArray[np.uint8],
    colors: dict[int, tuple[int, int, int]],
    root: Path | None = None,
) -> None:
    """Write label values as a palette PNG: pixels keep the values, viewers show the colors.

    Args:
        path: File to write.
        labelmap: ``(rows, columns)``.
        colors: Red, green and blue by label value; the rest, and 0, is black.
        root: Folder above it, below which no link is followed; None is its own.

    Raises:
        OutputError: If the file cannot be written.
    """
    palette = [0] * (3 * 256)
    for label, color in colors.items():
        palette[3 * label : 3 * label + 3] = color
    picture = PIL.Image.fromarray(np.ascontiguousarray(labelmap))
    picture.putpalette(palette)
    write_png(path, picture, root)


def write_jpeg(path: Path, picture: PIL.Image.Image, root: Path | None = None) -> None:
    """Write a picture as JPEG, whole or not at all, with the mark of our files."""
    with atomic_file(path, root) as file:
        picture.save(file, format="JPEG", quality=90, comment=MARK)


def write_gray_png(path: Path, array: npt.NDArray[np.uint8], root: Path | None = None) -> None:
    """Write ``array``, ``(rows, columns)``, as a gray PNG, whole or not at all."""
    write_png(path, PIL.Image.fromarray(np.ascontiguousarray(array)), root)


PNG_MARK = b"tEXtSoftware\0" + MARK
"""Stands near the beginning of every PNG written here: a text chunk of its own."""


def write_png(path: Path, picture: PIL.Image.Image, root: Path | None = None) -> None:
    """Write a picture, whole or not at all, with the mark by which a folder run knows it."""
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("Software", MARK.decode())
    with atomic_file(path, root) as file:
        picture.save(file, format="PNG", pnginfo=info)


def _check(picture: PIL.Image.Image, path: Path) -> None:
    """Refuse several frames, and more pixels than fit in memory, before any is decoded."""
    frames = getattr(picture, "n_frames", 1)
    # A phone's JPEG may carry a depth map or a thumbnail behind the picture that all show.
    if frames > 1 and picture.format in ("PNG", "TIFF"):
        msg = f"{path} must hold one picture; got {frames}. Save the one you mean on its own."
        raise FormatError(msg)
    width, height = picture.size
    check_fits(path, 8 * width * height, "the picture")


def _check_planes(picture: PIL.Image.Image, path: Path) -> None:
    """Refuse the kinds of TIFF that Pillow opens and garbles."""
    if picture.format != "TIFF":
        return
    bits = max(_tags(picture, BITSPERSAMPLE) or (1,))
    is_in_planes = _tag(picture, PLANAR_CONFIGURATION) == 2 and _tag(picture, COMPRESSION) == 1
    reason = ""
    if picture.mode not in _GRAY and bits > 8 and is_in_planes:
        reason = "its 16-bit colors are stored plane by plane"
    elif bits == 8 and _tag(picture, SAMPLEFORMAT) == 2:
        reason = "its 8-bit values have signs"
    elif picture.mode == "F" and _tag(picture, PHOTOMETRIC_INTERPRETATION) == 0:
        reason = "its values are fractions, of which 0 is to be white"
    if reason:
        msg = f"{path} must be a TIFF that is read exactly; {reason}. Save it as PNG."
        raise FormatError(msg)


def _tags(picture: PIL.Image.Image, number: int) -> tuple[Any, ...]:
    value = getattr(picture, "tag_v2", {}).get(number)
    return () if value is None else value if isinstance(value, tuple) else (value,)


def _tag(picture: PIL.Image.Image, number: int) -> Any:
    """Return the first value of a TIFF tag; None where there is none."""
    return next(iter(_tags(picture, number)), None)


def _unsigned(pixels: npt.NDArray[Any], *, is_white_zero: bool) -> npt.NDArray[Any]:
    """Return deep gray as its file means it: Pillow takes 32 bits for signed and 0 for black."""
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


def _upright(picture: PIL.Image.Image, path: Path, notes: list[str]) -> npt.NDArray[Any]:
    """Return ``(C, rows, columns)``, turned as EXIF says, in the numbers that the file means."""
    if _is_deep_color(picture):
        notes.append("Its 16-bit colors were read as 8-bit.")
    is_white_zero = _tag(picture, PHOTOMETRIC_INTERPRETATION) == 0
    is_unsigned = picture.mode in _DEEP and _tag(picture, SAMPLEFORMAT) in (None, 1)
    pixels = _pixels(PIL.ImageOps.exif_transpose(picture), path, notes)
    return _unsigned(pixels, is_white_zero=is_white_zero) if is_unsigned else pixels


def _pixels(picture: PIL.Image.Image, path: Path, notes: list[str]) -> npt.NDArray[Any]:
    """Return ``(C, rows, columns)`` of a decoded picture; say what was done to its colors."""
    if picture.mode == "1":
        picture = picture.convert("L")
    if picture.has_transparency_data and picture.mode not in _DEEP:
        picture = _on_black(picture, notes)
    elif picture.mode not in _GRAY | {"RGB"}:
        picture = _to_rgb(picture, path)
    array = np.array(picture)
    if array.dtype.byteorder not in "=|":
        array = array.astype(array.dtype.newbyteorder("="))
    if picture.mode in _DEEP and "transparency" in picture.info:  # one value, which PNG names
        is_clear = array == picture.info["transparency"]
        array[is_clear] = 0
        notes += ["It is partly transparent; it was laid on black."] if is_clear.any() else []
    if array.ndim == 2:
        return array[np.newaxis]
    return np.ascontiguousarray(np.moveaxis(array, -1, 0))


def _on_black(picture: PIL.Image.Image, notes: list[str]) -> PIL.Image.Image:
    """Return the picture without its alpha: dropped where all is opaque, else laid on black."""
    is_gray = picture.mode in ("L", "LA", "La")
    layered = picture.convert("LA" if is_gray else "RGBA")
    opaque, alpha = layered.convert(layered.mode[:-1]), layered.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return opaque
    notes.append("It is partly transparent; it was laid on black.")
    return PIL.Image.composite(opaque, PIL.Image.new(opaque.mode, opaque.size), alpha)


def _to_rgb(picture: PIL.Image.Image, path: Path) -> PIL.Image.Image:
    if picture.mode not in ("P", "CMYK", "YCbCr", "HSV", "RGBX", "LA", "PA", "RGBA"):
        msg = f"{path} must be gray or in color; got Pillow's mode {picture.mode}."
        raise FormatError(msg)
    return picture.convert("RGB")
