"""A worker process as its run sees it: started, sent to, heard and ended."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.resource_tracker
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Generic, Protocol, TypeVar

from esp_medsam.io.item import Item
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.worker import Message, work


SECONDS_TO_END = 5.0
"""Time that a worker has to end before it is killed, and that the system has to take it away."""

CRASHES = frozenset(
    getattr(signal, name)
    for name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE")
    if hasattr(signal, name)
)
"""Signals that a library's own fault raises."""

_WINDOWS_FAULT = 0xC0000000
"""Exit status on Windows from which a fault ended a process."""

_SPAWN = multiprocessing.get_context("spawn")  # a fork after torch has worked can hang


class OfItem(Protocol):
    """What a worker is given: an item, and what its run knows about it."""

    @property
    def item(self) -> Item:
        """The item."""


J = TypeVar("J", bound=OfItem)


class WorkerProcess(Generic[J]):
    """One worker process.

    Args:
        request: What it segments with.
        threads: Number of threads for the network on the CPU.
        is_spare: Whether it is for one job alone.
        tells: Whether it tells how many slices are done.

    Attributes:
        job: Its current job.
        name: Host and process, once its network is loaded.
        is_ready: Whether its network is loaded.
        is_reading: Whether it reads the item.
        connection: Where its messages arrive.
    """

    def __init__(self, request: Request, threads: int, *, is_spare: bool, tells: bool) -> None:
        self.is_spare = is_spare
        self.job: J | None = None
        self.name = ""
        self.is_ready = self.is_reading = False
        self._latest = float("inf")
        self.connection, self._theirs = _SPAWN.Pipe()
        arguments = (self._theirs, request, threads, logging.getLogger().level, tells)
        self._process = _SPAWN.Process(target=work, args=arguments)

    def start(self) -> None:
        """Start the process; it gets its job when its network is loaded.

        Raises:
            OSError: If the system cannot.
        """
        try:
            with _signals_held():
                self._process.start()
        finally:
            self._theirs.close()  # so that the pipe ends with the worker

    def begin(self, job: J, most_seconds: float) -> None:
        """Take a job, which must end within a time; it is sent when the network is loaded."""
        self.job, self.is_reading = job, False
        self._latest = time.monotonic() + most_seconds
        if self.is_ready:
            with suppress(OSError):  # it has ended, which is seen next
                self.connection.send(job.item)

    @property
    def seconds_left(self) -> float:
        """Time that the current job, or the start, still has."""
        return self._latest - time.monotonic()

    @property
    def sentinel(self) -> int:
        """What to wait for to see its end."""
        return self._process.sentinel

    def is_alive(self) -> bool:
        """Whether it lives."""
        return self._process.is_alive()

    def messages(self) -> Iterator[Message]:
        """Yield what it has sent so far."""
        try:
            while not self.connection.closed and self.connection.poll():
                yield self.connection.recv()
        except (EOFError, OSError):  # it has ended
            return

    def ask_to_end(self) -> None:
        """Let it end: at once if it has a job, else when it sees that no more will come."""
        self.connection.close()
        if self.job is not None and self._process.pid is not None:
            self._process.terminate()

    def end(self) -> None:
        """End it, and wait until it has."""
        self.ask_to_end()
        if self._process.pid is None:  # it was not started
            return
        self._process.join(SECONDS_TO_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(SECONDS_TO_END)  # what a driver holds may stay longer

    @property
    def has_crashed(self) -> bool:
        """Whether a library's own fault ended it."""
        code = self._process.exitcode or 0
        return -code in CRASHES or code >= _WINDOWS_FAULT

    @property
    def death(self) -> str:
        """How it ended, in words."""
        return ended_by(self._process.exitcode)


def ended_by(code: int | None) -> str:
    """Return in words how a process with an exit status ended."""
    if code is None or code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold signals back while a process starts: it would be left alone before it is known.

    The process begins with them held back, too, and lets them through when it is ready for them.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    multiprocessing.resource_tracker.ensure_running()  # which would let them through
    held = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


HELD = frozenset(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Signals that end a run."""
