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
"""Bytes assumed where the system does not say: half of a common laptop."""

_SYSTEM = Path("/proc/meminfo")
_GROUP = Path("/proc/self/cgroup")
_PROCESS = Path("/proc/self/statm")
"""What Linux says: of all memory, of the control groups that this process is in, and of it."""

_GROUPS = tuple(Path("/sys/fs/cgroup", name) for name in ("", "memory", "unified"))
"""Where control groups are: of version 2, of version 1, and of version 2 beside version 1."""

_GROUP_FILES = (
    ("memory.max", "memory.current", ""),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)
"""A group's limit, what it uses, and how its statistics begin, of version 2 and version 1."""


@dataclass(frozen=True)
class Beside:
    """What later steps take beside an image, by what takes it.

    Attributes:
        per_voxel: Bytes for each voxel.
        fixed: Bytes, however large the image is.
    """

    per_voxel: Mapping[str, int] = field(default_factory=dict)
    fixed: Mapping[str, int] = field(default_factory=dict)

    def of(self, voxels: int) -> dict[str, int]:
        """Return the bytes that each part takes beside so many voxels."""
        return {name: size * voxels for name, size in self.per_voxel.items()} | dict(self.fixed)


NOTHING = Beside()

_LIBRARIES = 5 * 2**28
_LIBRARIES_OF_CUDA = 5 * 2**29
_LIBRARIES_PER_CORE = 80 * 2**20
"""Addresses that torch and MONAI take, more where torch is built for CUDA, and for each core."""


def check_libraries_fit() -> None:
    """Refuse to load torch and MONAI where the limit of the process (``ulimit -v``) is too low.

    Without this, libraries below them end the process, each in its own way.

    Raises:
        TooLargeError: If it leaves fewer addresses than they take.
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
    """Refuse what cannot be held in memory, before any of it is allocated.

    Args:
        path: File that asks for it.
        size: Bytes needed.
        what: What needs them, for the message.
        beside: What later steps will take meanwhile.
        voxels: How many the image has that they take.

    Raises:
        TooLargeError: If there is not so much memory at hand.
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
    """What the system last said of its memory, for those who ask a thousand times."""

    def __init__(self) -> None:
        self.asking = 0
        self.lock = Lock()
        self.until = 0.0
        self.available = 0


_answer = _Answer()

_FRESH = 0.5
"""Seconds for which an answer of the system is good."""


@contextmanager
def seldom_asked() -> Iterator[None]:
    """Ask the system for its memory twice a second at most, for runs over many small files.

    It takes a millisecond, which is what a small picture takes. Any thread may be inside.
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
    """Return the bytes of memory that can be had without swapping.

    Within the limits of a container, and of the process (``ulimit -v``).
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
    """Yield what is left to the control groups of the process, and to all above them."""
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
        with suppress(KeyError, OSError, ValueError):  # without a limit there is no number
            most = int((folder / limit).read_text(encoding="ascii"))
            taken = int((folder / used).read_text(encoding="ascii"))
            statistics = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
            stated = dict(line.split() for line in statistics)
            # The system takes back what it keeps of files when memory runs short.
            kept = sum(int(stated[f"{prefix}{kind}_file"]) for kind in ("active", "inactive"))
            yield max(0, most - taken + kept)


def _left_to_process() -> Iterator[int]:
    """Yield the bytes of addresses that the process may still take, where it has a limit."""
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource  # POSIX alone has it

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            taken = _PROCESS.read_text(encoding="ascii").split()[0]
            yield max(0, limit - int(taken) * resource.getpagesize())


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
