"""Open untrusted files without blocking, as a pipe without a writer would."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from esp_medsam.errors import ReadError


_FLAGS = (
    os.O_RDONLY
    # Windows has only the last flag, and needs it: a text file would lose its carriage returns.
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading bytes; links are followed.

    The kind of file is checked on the open file, so that it cannot be swapped in between.

    Raises:
        OSError: If it cannot be opened, or is a folder, a pipe, a socket or a device; ``strerror``
            states which.
    """
    descriptor = os.open(path, _FLAGS)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "something else")
            raise OSError(errno.EINVAL, f"it is {kind}, not a file", os.fspath(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def unreadable(path: str | os.PathLike[str], error: OSError) -> ReadError:
    """Return the error for an unreadable file, with the reason that the system states."""
    return ReadError(f"{path} must be readable; got: {error.strerror or type(error).__name__}.")
