"""How much a file may ask for."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from esp_medsam.errors import TooLargeError


_UNKNOWN = 8 * 2**30
"""Bytes assumed where the system does not say: half of a common laptop."""


def check_fits(path: Path, size: int, what: str) -> None:
    """Refuse what cannot be held in memory, before any of it is allocated.

    Args:
        path: File that asks for it.
        size: Bytes needed.
        what: What needs them, for the message.

    Raises:
        TooLargeError: If ``size`` is more than the memory at hand.
    """
    available = available_memory()
    if size > available:
        msg = (
            f"{path} must fit in memory; {what} needs {_gigabytes(size)}, "
            f"{_gigabytes(available)} are free. Crop or split it, or use a larger machine."
        )
        raise TooLargeError(msg)


def available_memory() -> int:
    """Return the bytes of memory that can be had without swapping.

    Within the limit of a container, and of the process (``ulimit -v``).
    """
    limits = []
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        limits.append(int(line.split()[1]) * 1024)
    with suppress(OSError, ValueError):
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    limits += _left_to_process()
    if not limits:
        with suppress(AttributeError, OSError, ValueError):
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=_UNKNOWN)


def _left_to_process() -> list[int]:
    """Return the bytes of addresses that the process may still take, where it has a limit."""
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource  # POSIX alone has it

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            taken = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
            return [max(0, limit - int(taken) * resource.getpagesize())]
    return []


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
