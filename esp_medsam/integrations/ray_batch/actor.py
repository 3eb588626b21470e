"""An actor: it keeps a worker process on a node of the cluster, for a run that drives it."""

from __future__ import annotations

import logging
import os
import platform
import time
from multiprocessing.connection import wait
from threading import Thread
from typing import NamedTuple

from esp_medsam.errors import ClusterError
from esp_medsam.integrations.ray_batch.shared_storage import SharedStorage
from esp_medsam.io.item import Item
from esp_medsam.workflows.attempts import Job
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.worker import Message, Unfit
from esp_medsam.workflows.worker_process import WorkerProcess


_SECONDS_TO_LISTEN = 1.0
"""Time after which a call returns without news; until then, no other call is taken."""

_SECONDS_BETWEEN_LOOKS = 1.0
"""Time after which an actor looks again whether its run is at work."""


class Death(NamedTuple):
    """How a worker process ended.

    Attributes:
        text: In words.
        is_crash: Whether a library's own fault ended it.
    """

    text: str
    is_crash: bool


class Heard(NamedTuple):
    """What a worker process has sent, and how it ended.

    Attributes:
        messages: What it sent.
        death: How it ended; None if it lives.
    """

    messages: tuple[Message, ...] = ()
    death: Death | None = None


class SegmentActor:
    """One worker process on a node, started, sent to, heard and ended from afar.

    The process is the one that segments on a single machine. How it ends is seen here, which Ray
    would not tell; when the actor ends, the process does. No call takes long, so that the actor
    can always be told to stop.

    Args:
        storage: What the node must see.
        level: Level of the log.
    """

    def __init__(self, storage: SharedStorage, level: int) -> None:
        self._storage = storage
        self._worker: WorkerProcess[Job] | None = None
        logging.getLogger().setLevel(level)

    def enter(self) -> tuple[str, Unfit | None]:
        """Return the name of the node, and why it cannot be used."""
        node = platform.node()
        try:
            self._storage.enter(node)
        except ClusterError as error:
            return node, Unfit(error)
        Thread(target=self._end_with_run, daemon=True).start()
        return node, None

    def start(self, request: Request, threads: int, tells: bool) -> Heard:
        """Start the process; arguments as of :class:`WorkerProcess`."""
        self._worker = WorkerProcess(request, threads, is_spare=False, tells=tells)
        try:
            self._worker.start()
        except OSError as error:
            told = f"the system, which could not start it: {error.strerror}"
            return Heard(death=Death(told, is_crash=False))
        return self.listen()

    def segment(self, item: Item) -> Heard:
        """Send an item to the process, which is ready."""
        assert self._worker is not None, "it was started"
        self._worker.is_ready = True
        self._worker.begin(Job(item), float("inf"))
        return self.listen()

    def listen(self) -> Heard:
        """Return what the process has sent, as soon as it has, or nothing after a second."""
        worker = self._worker
        assert worker is not None, "it was started"
        wait([worker.connection, worker.sentinel], _SECONDS_TO_LISTEN)
        is_alive = worker.is_alive()  # before its messages are read: all have arrived then
        messages = tuple(worker.messages())
        return Heard(messages, None if is_alive else Death(worker.death, worker.has_crashed))

    def stop(self) -> None:
        """End the process, and wait until it has."""
        if self._worker is not None:
            self._worker.end()

    def _end_with_run(self) -> None:
        """End when the run is gone, even if Ray does not notice: the next one must not meet us."""
        while self._storage.is_of_a_run:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os._exit(1)
