"""Read the next image while the network is at work on another."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, NamedTuple

from esp_medsam.io.item import Item


Read = Callable[[dict[str, Any]], dict[str, Any]]
"""Reads and prepares the image of an item, given under ``image``."""


class _Expected(NamedTuple):
    """An item whose image is read ahead."""

    item: Item
    image: Future[dict[str, Any]]


class ReadAhead:
    """Reads images one at a time, the next one in a thread of its own.

    At most one image is held besides that of the network. Whether it fits into memory is checked
    as for any other; one that does not, or cannot be read, is read once more in its turn, so that
    its error is told then.

    Args:
        read: Reads and prepares the image of an item.
        begin: Called once in the thread before it reads.
    """

    def __init__(self, read: Read, begin: Callable[[], None] | None = None) -> None:
        self._read = read
        self._thread = ThreadPoolExecutor(1, "read-ahead", initializer=begin)
        self._one_at_a_time, self._changing = Lock(), Lock()
        self._expected: _Expected | None = None

    def expect(self, item: Item) -> None:
        """Begin to read the image of an item that will follow, in place of any other."""
        with self._changing:
            if self._expected is not None:
                self._expected.image.cancel()
            self._expected = _Expected(item, self._thread.submit(self._alone, {"image": item}))

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the data of an item with its image, which may have been read before."""
        with self._changing:
            expected = self._expected
            if expected is not None and expected.item == data["image"]:
                self._expected = None
            else:
                expected = None
        if expected is not None and expected.image.exception() is None:  # which waits for it
            return expected.image.result()
        return self._alone(data)

    def _alone(self, data: dict[str, Any]) -> dict[str, Any]:
        with self._one_at_a_time:
            return self._read(data)
