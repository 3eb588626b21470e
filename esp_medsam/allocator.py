"""Let the C library reuse what networks free, instead of returning it to the system each time."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
"""Options of glibc's mallopt."""

_ALL = 2**31 - 1
"""Bytes of free memory at the end of the heap that are kept in training."""

_LARGE = 32 * 2**20
"""Bytes from which memory comes from the system and returns there; glibc allows no more. Features
of 448 x 448 are smaller, volumes are larger."""

_SPARE = 512 * 2**20
"""Bytes of free memory at the end of the heap that are kept in inference."""


def keep_memory() -> bool:
    """Keep all memory that is freed, for a process whose steps need the same amount each.

    Returns:
        Whether the C library supports this.
    """
    return _set({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _ALL})


def reuse_memory() -> bool:
    """Keep memory that a pass frees for the next pass, but return what volumes needed.

    By default, glibc returns every larger feature map to the system, which clears it before it
    gives it out again: a quarter of the processor time of a CT.

    Returns:
        Whether the C library supports this.
    """
    return _set({_M_MMAP_THRESHOLD: _LARGE, _M_TRIM_THRESHOLD: _SPARE})


def _set(options: Mapping[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    done = [mallopt(option, value) for option, value in options.items()]
    return all(done)
