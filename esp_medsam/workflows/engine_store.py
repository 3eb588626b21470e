"""Engines that are kept in the user's cache: complete, checked, and made anew if damaged."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from esp_medsam.cache_folder import cache_folder
from esp_medsam.errors import OutputError
from esp_medsam.io.atomic import atomic_file


logger = logging.getLogger(__name__)

UNUSED_DAYS = 60
"""Days after which an engine that was not used is removed."""

_DIGEST = hashlib.sha256().digest_size


def engines_folder() -> Path:
    """Return the folder of all engines."""
    return cache_folder() / "engines"


class EngineStore:
    """Keeps the files of one graph; several processes may share it.

    Args:
        identity: Text that identifies what the graph computes, and for which input.
        folder: Where the files are; None means the user's cache.
    """

    def __init__(self, identity: str, folder: Path | None = None) -> None:
        self._folder = folder or engines_folder()
        self._name = hashlib.sha256(identity.encode()).hexdigest()[:32]

    def path_of(self, kind: str) -> Path:
        """Return the path of a file, whose folder exists if it can be made."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"{self._name}.{kind}"

    def bytes_of(self, kind: str, make: Callable[[], bytes]) -> bytes:
        """Return a file's content; what is missing or damaged is made and kept.

        Where the cache cannot be written, the content is made each time.
        """
        path = self.path_of(kind)
        if (kept := _read(path)) is not None:
            return kept
        content = make()
        try:
            with atomic_file(path) as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
        except OutputError as error:
            logger.info("An engine was not kept: %s", error)
        _remove_unused(self._folder)
        return content


def _read(path: Path) -> bytes | None:
    """Return a file's content if it is there and whole, and note that it was used."""
    try:
        whole = path.read_bytes()
        content = whole[_DIGEST:]
        if hashlib.sha256(content).digest() != whole[:_DIGEST]:
            logger.warning("%s is damaged and is made anew.", path)
            return None
        path.touch()
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.info("An engine was not read: %s", error)
        return None
    return content


def _remove_unused(folder: Path) -> None:
    oldest = time.time() - UNUSED_DAYS * 24 * 60 * 60
    for path in folder.glob("*.*"):
        with suppress(OSError):  # another process may have removed it
            if path.stat().st_mtime < oldest:
                path.unlink()
