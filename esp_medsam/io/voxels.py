"""Rules shared by the readers of volumes: which volume is read, and how memory holds it."""

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
"""Maximum volumes in a file; the longest functional MRI series have some thousands."""

MORE_BYTES = "The file is longer than its header says; the rest was ignored."
"""Warning about data after the voxels."""


class Chosen(NamedTuple):
    """The volume of a file that is read, and its size and type.

    Attributes:
        number: Its index among the volumes of the file, from 0.
        frames: Number of volumes in the file.
        size: Number of voxels.
        dtype: Type of the voxels in memory.
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
    """Return which volume of a file to read, after checking that it fits in memory.

    Args:
        frame: The user's choice, from 0; no effect if there is only one volume.
        shape: Shape of a volume.
        volumes: Lengths of the further axes: time points, echoes or channels.
        values: Type of the numbers in the file after scaling.
        path: The file.
        beside: What must fit in memory in addition to the volume.
        reading: Additional bytes that are needed while the volume is read.

    Raises:
        FormatError: If there are several volumes and none is chosen.
        TooLargeError: If there are more volumes than any series has, or the volume does not fit.
        OptionError: If there is no volume with that number.
    """
    frames, count, dtype = math.prod(volumes), math.prod(shape), _memory_dtype(values)
    number, warnings = _choice(frame, frames, shape + volumes, path)
    if reading:
        check_fits(path, reading + count * dtype.itemsize, "reading its volume")
    held = 4 if dtype == np.uint16 else dtype.itemsize  # torch barely supports uint16
    check_fits(path, count * held, "its volume", beside, count)
    return Chosen(number, frames, count, dtype, warnings)


def put_piece(
    voxels: npt.NDArray[Any], start: int, values: npt.NDArray[Any], path: Path
) -> npt.NDArray[Any]:
    """Store values at ``start``; return the voxels, as float32 if int32 cannot hold them.

    Raises:
        NonFiniteError: If a value is NaN or infinite.
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
    """Return the number of the volume to read, and the warnings about it."""
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
