"""Rules shared by the readers of volumes: choice of a 4-D frame, and data types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esp_medsam.errors import FormatError, NonFiniteError, OptionError, TooLargeError


CHUNK_VOXELS = 2**20
"""Voxels that are converted at a time, so that no second volume is held meanwhile."""

_MOST_FRAMES = 2**16
"""Volumes of a file; the longest series of functional MRI have some thousands."""

MORE_BYTES = "It holds more bytes than its header accounts for; they were passed over."
"""Warning about what follows the voxels."""


def choose_frame(
    frame: int | None, frames: int, lengths: Sequence[int], path: Path
) -> tuple[int, tuple[str, ...]]:
    """Return which of the volumes of a file to read, and what there is to say of it.

    Args:
        frame: The user's choice, from 0; no effect where there is one volume.
        frames: Volumes in the file: time points, echoes or channels.
        lengths: Of all axes of the file, for the message.
        path: The file.

    Raises:
        FormatError: If there are several and none is chosen.
        TooLargeError: If there are more than any series has.
        OptionError: If there is no volume of that number.
    """
    if frames == 1:
        return 0, ()
    if frames > _MOST_FRAMES:
        msg = f"{path} must hold at most {_MOST_FRAMES:,} volumes; got {frames:,}. Split it."
        raise TooLargeError(msg)
    if frame is None:
        size = " x ".join(str(length) for length in lengths)
        msg = (
            f"{path} must be one volume; got {size} (time points, echoes or channels). "
            f"Choose one with `frame`, from 0 to {frames - 1}, or save it to a file of its own."
        )
        raise FormatError(msg)
    if not 0 <= frame < frames:
        msg = f"frame must lie in 0..{frames - 1} for {path}; got {frame}."
        raise OptionError(msg)
    return frame, (f"It holds {frames} volumes; number {frame}, counted from 0, was read.",)


def memory_dtype(stored: np.dtype[Any], *, is_scaled: bool = False) -> np.dtype[Any]:
    """Return the type in memory: native byte order, never float64, never 64-bit integers.

    Args:
        stored: Type of the numbers in the file.
        is_scaled: Whether slope and intercept apply.
    """
    if is_scaled or stored.kind == "f":
        return np.dtype(np.float32)
    if stored.itemsize == 8 or stored == np.dtype(np.uint32).newbyteorder(stored.byteorder):
        return np.dtype(np.int32)
    native: np.dtype[Any] = stored.newbyteorder("=")
    return native


def held_bytes(dtype: np.dtype[Any]) -> int:
    """Return the bytes of a number as the pipeline holds it: torch has hardly any uint16."""
    return 4 if dtype == np.uint16 else dtype.itemsize


def fits_int32(stored: npt.NDArray[Any]) -> bool:
    """Whether int32 holds all numbers of ``stored``."""
    limits = np.iinfo(np.int32)
    return bool(stored.max() <= limits.max and stored.min() >= limits.min)


def check_finite(voxels: npt.NDArray[Any], path: Path) -> None:
    """Refuse NaN and infinity.

    Raises:
        NonFiniteError: If ``voxels`` holds any.
    """
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        msg = (
            f"{path} must hold finite numbers; it has NaN or infinite voxels. "
            "Replace them by the value of the background."
        )
        raise NonFiniteError(msg)
