"""Write pictures and masks of pictures, each with the mark of our files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.PngImagePlugin

from esp_medsam.io.atomic import MARK, atomic_file


PNG_MARK = b"tEXtSoftware\0" + MARK
"""Text chunk near the beginning of every PNG written here."""


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
        colors: Red, green and blue by label value; other values, and 0, are black.
        root: Folder above it, below which no link is followed; None means the file's own folder.

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
    """Write a picture as JPEG, atomically, with the mark of our files.

    Colors keep their resolution, because thin colored lines would be blurred without it.
    """
    with atomic_file(path, root) as file:
        picture.save(file, format="JPEG", quality=90, subsampling=0, comment=MARK)


def write_gray_png(path: Path, array: npt.NDArray[np.uint8], root: Path | None = None) -> None:
    """Write ``array``, ``(rows, columns)``, as a gray PNG, atomically."""
    write_png(path, PIL.Image.fromarray(np.ascontiguousarray(array)), root)


def write_png(path: Path, picture: PIL.Image.Image, root: Path | None = None) -> None:
    """Write a picture as PNG, atomically, with the mark by which a folder run recognizes it."""
    with atomic_file(path, root) as file:
        file.write(png_with_mark(picture))


def png_with_mark(picture: PIL.Image.Image) -> bytes:
    """Return a picture as a PNG file with the mark of our files."""
    encoded = io.BytesIO()
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("Software", MARK.decode())
    picture.save(encoded, format="PNG", pnginfo=info)
    return encoded.getvalue()
