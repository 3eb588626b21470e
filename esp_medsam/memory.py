"""Refuse work that would not fit in memory, before it is allocated."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from esp_medsam.errors import TooLargeError


_UNKNOWN = 8 * 2**30
"""Bytes assumed if the system does not tell: half the memory of a common laptop."""

_SYSTEM = Path("/proc/meminfo")
_GROUP = Path("/proc/self/cgroup")
_PROCESS = Path("/proc/self/statm")
"""Linux files on all memory, on the control groups of this process, and on the process itself."""

_GROUPS = tuple(Path("/sys/fs/cgroup", name) for name in ("", "memory", "unified"))
"""Folders of control groups: version 2, version 1, and version 2 alongside version 1."""

_GROUP_FILES = (
    ("memory.max", "memory.current", ""),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)
"""Files with a group's limit and usage, and prefix of its statistics, for versions 2 and 1."""


@dataclass(frozen=True)
class Beside:
    """Memory that later steps take in addition to an image, by the part that takes it.

    Attributes:
        per_voxel: Bytes for each voxel.
        fixed: Bytes regardless of the image size.
    """

    per_voxel: Mapping[str, int] = field(default_factory=dict)
    fixed: Mapping[str, int] = field(default_factory=dict)

    def of(self, voxels: int) -> dict[str, int]:
        """Return the bytes that each part takes for an image of ``voxels`` voxels."""
        return {name: size * voxels for name, size in self.per_voxel.items()} | dict(self.fixed)


NOTHING = Beside()

_LIBRARIES = 5 * 2**28
_LIBRARIES_OF_CUDA = 5 * 2**29
_LIBRARIES_PER_CORE = 80 * 2**20
"""Address space that torch and MONAI take: base, more if torch is built for CUDA, and per core."""


def check_libraries_fit() -> None:
    """Refuse to load torch and MONAI if the limit of the process (``ulimit -v``) is too low.

    Without this check, the libraries they load end the process, each in its own way.

    Raises:
        TooLargeError: If the limit leaves less address space than torch and MONAI take.
    """
    needed = _LIBRARIES + _LIBRARIES_PER_CORE * (os.cpu_count() or 1)
    torch = find_spec("torch")
    if torch is not None and list(Path(str(torch.origin)).parent.glob("lib/libtorch_cuda.*")):
        needed += _LIBRARIES_OF_CUDA
    for left in _left_to_process():
        if left < needed:
            msg = (
                f"torch and MONAI must fit in memory; they need {_gigabytes(needed)}, and the "
                f"limit of this process leaves {_gigabytes(left)}. Raise it (ulimit -v)."
            )
            raise TooLargeError(msg)


def check_fits(path: Path, size: int, what: str, beside: Beside = NOTHING, voxels: int = 0) -> None:
    """Refuse data that does not fit in memory, before any of it is allocated.

    Args:
        path: File that needs the memory.
        size: Bytes needed.
        what: What needs the bytes, for the message.
        beside: What later steps take at the same time.
        voxels: Number of voxels of the image that later steps process.

    Raises:
        TooLargeError: If not enough memory is available.
    """
    later = beside.of(voxels)
    parts = {what: size, **later}
    total, available = sum(parts.values()), available_memory()
    if total <= available:
        return
    needs = ", ".join(f"{name} needs {_gigabytes(each)}" for name, each in parts.items())
    together = f", {_gigabytes(total)} together" if later else ""
    fewer = "Segment fewer targets at a time, crop" if later else "Crop"
    msg = (
        f"{path} must fit in memory; {needs}{together}, {_gigabytes(available)} are free. "
        f"{fewer} or split it, or use a larger machine."
    )
    raise TooLargeError(msg)


class _Answer:
    """The last available memory that the system stated, for callers that ask very often."""

    def __init__(self) -> None:
        self.asking = 0
        self.lock = Lock()
        self.until = 0.0
        self.available = 0


_answer = _Answer()

_FRESH = 0.5
"""Seconds for which an answer of the system stays valid."""


@contextmanager
def seldom_asked() -> Iterator[None]:
    """Ask the system for its memory at most twice a second, for runs over many small files.

    Asking takes a millisecond, as long as a small picture. Several threads may use this at once.
    """
    with _answer.lock:
        _answer.asking += 1
    try:
        yield
    finally:
        with _answer.lock:
            _answer.asking -= 1
            _answer.until = 0.0


def available_memory() -> int:
    """Return the bytes of memory available without swapping.

    The limits of a container and of the process (``ulimit -v``) are respected.
    """
    if not _answer.asking:
        return _available_memory()
    with _answer.lock:
        if time.monotonic() >= _answer.until:
            _answer.available = _available_memory()
            _answer.until = time.monotonic() + _FRESH
        return _answer.available


def _available_memory() -> int:
    limits = [*_left_to_system(), *_left_to_groups(), *_left_to_process()]
    if not limits:
        with suppress(AttributeError, OSError, ValueError):
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=_UNKNOWN)


def _left_to_system() -> Iterator[int]:
    with suppress(OSError, ValueError):
        for line in _SYSTEM.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024


def _left_to_groups() -> Iterator[int]:
    """Yield the bytes left to the control groups of the process and to all their parents."""
    with suppress(OSError, ValueError):
        for line in _GROUP.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            parts = [part for part in path.split("/") if part not in ("", "..")]
            for count in range(len(parts) + 1):
                for root in _GROUPS:
                    yield from _left_to_group(root.joinpath(*parts[:count]))


def _left_to_group(folder: Path) -> Iterator[int]:
    for limit, used, prefix in _GROUP_FILES:
        with suppress(KeyError, OSError, ValueError):  # a group without a limit states no number
            most = int((folder / limit).read_text(encoding="ascii"))
            taken = int((folder / used).read_text(encoding="ascii"))
            statistics = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
            stated = dict(line.split() for line in statistics)
            # The system reclaims its file cache when memory runs short.
            kept = sum(int(stated[f"{prefix}{kind}_file"]) for kind in ("active", "inactive"))
            yield max(0, most - taken + kept)


def _left_to_process() -> Iterator[int]:
    """Yield the bytes of address space that the process may still take, if it has a limit."""
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource  # exists on POSIX only

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            taken = _PROCESS.read_text(encoding="ascii").split()[0]
            yield max(0, limit - int(taken) * resource.getpagesize())


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
