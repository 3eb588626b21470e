"""Where runtimes keep what takes long to build."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Store(Protocol):
    """Keeps the files of one graph: of certain weights, modality, input shape and versions."""

    def bytes_of(self, kind: str, make: Callable[[], bytes]) -> bytes:
        """Return a file's content, as it was kept, or as it is made now.

        Args:
            kind: Which of the graph's files.
            make: Makes the content.
        """

    def path_of(self, kind: str) -> Path:
        """Return where a library may keep a file that it checks itself."""


class NoStore:
    """Keeps nothing."""

    def bytes_of(self, kind: str, make: Callable[[], bytes]) -> bytes:
        """Return what is made now."""
        del kind
        return make()

    def path_of(self, kind: str) -> Path:
        """Return a path in a folder that is used once."""
        return Path(tempfile.mkdtemp(), kind)
