"""Rules shared by the readers of volumes: which of a file is read, and how memory holds it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from esp_medsam.errors import FormatError, NonFiniteError, OptionError, TooLargeError
from esp_medsam.memory import Beside, check_fits


CHUNK_VOXELS = 2**20
"""Voxels that are converted at a time, so that no second volume is held meanwhile."""

_MOST_FRAMES = 2**16
"""Volumes of a file; the longest series of functional MRI have some thousands."""

MORE_BYTES = "The file is longer than its header says; the rest was ignored."
"""Warning about what follows the voxels."""


class Chosen(NamedTuple):
    """The volume of a file that is read, and what it takes.

    Attributes:
        number: Its place among the volumes of the file, from 0.
        frames: How many these are.
        size: Voxels it has.
        dtype: Their type in memory.
        warnings: What a user should know.
    """

    number: int
    frames: int
    size: int
    dtype: np.dtype[Any]
    warnings: tuple[str, ...]


def choose_frame(
    frame: int | None,
    shape: tuple[int, ...],
    volumes: tuple[int, ...],
    values: np.dtype[Any],
    path: Path,
    beside: Beside,
    *,
    reading: int = 0,
) -> Chosen:
    """Return which of the volumes of a file to read, which fits in memory.

    Args:
        frame: The user's choice, from 0; no effect where there is one volume.
        shape: Of a volume.
        volumes: Lengths of the axes beyond it: time points, echoes or channels.
        values: Type of the numbers in the file, once they are scaled.
        path: The file.
        beside: What must fit in memory beside the volume.
        reading: Bytes that are taken beside it while it is read.

    Raises:
        FormatError: If there are several and none is chosen.
        TooLargeError: If there are more than any series has, or it does not fit.
        OptionError: If there is no volume of that number.
    """
    frames, count, dtype = math.prod(volumes), math.prod(shape), _memory_dtype(values)
    number, warnings = _choice(frame, frames, shape + volumes, path)
    if reading:
        check_fits(path, reading + count * dtype.itemsize, "reading its volume")
    held = 4 if dtype == np.uint16 else dtype.itemsize  # torch has hardly any uint16
    check_fits(path, count * held, "its volume", beside, count)
    return Chosen(number, frames, count, dtype, warnings)


def put_piece(
    voxels: npt.NDArray[Any], start: int, values: npt.NDArray[Any], path: Path
) -> npt.NDArray[Any]:
    """Put values in their place; return the voxels, as float32 where int32 does not hold them.

    Raises:
        NonFiniteError: If one is NaN or infinite.
    """
    limits = np.iinfo(np.int32)
    if voxels.dtype == np.int32 and not limits.min <= values.min() <= values.max() <= limits.max:
        voxels = voxels.astype(np.float32)
    piece = voxels[start : start + len(values)]
    with np.errstate(over="ignore", invalid="ignore"):  # refused as infinite
        piece[:] = values
    if piece.dtype.kind == "f" and not np.isfinite(piece).all():
        msg = (
            f"{path} must hold finite numbers; it has NaN or infinite voxels. "
            "Replace them by the value of the background."
        )
        raise NonFiniteError(msg)
    return voxels


def _choice(
    frame: int | None, frames: int, lengths: tuple[int, ...], path: Path
) -> tuple[int, tuple[str, ...]]:
    """Return the number of the volume that is read, and what there is to say of it."""
    if frames == 1:
        return 0, ()
    if frames > _MOST_FRAMES:
        msg = f"{path} must hold at most {_MOST_FRAMES:,} volumes; got {frames:,}. Split it."
        raise TooLargeError(msg)
    if frame is None:
        size = " x ".join(str(length) for length in lengths)
        msg = (
            f"{path} must be one volume; got {size} (time points, echoes or channels). Choose "
            f"one with `frame`, from 0 to {frames - 1}, or save one as a file of its own."
        )
        raise FormatError(msg)
    if not 0 <= frame < frames:
        msg = f"frame must lie in 0..{frames - 1} for {path}; got {frame}."
        raise OptionError(msg)
    return frame, (f"The file holds {frames} volumes; number {frame}, counted from 0, was read.",)


def _memory_dtype(values: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type in memory: native byte order, never float64, never 64-bit integers."""
    if values.kind == "f":
        return np.dtype(np.float32)
    if values.itemsize == 8 or values == np.dtype(np.uint32).newbyteorder(values.byteorder):
        return np.dtype(np.int32)
    native: np.dtype[Any] = values.newbyteorder("=")
    return native
