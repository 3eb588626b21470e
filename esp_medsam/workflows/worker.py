"""A worker process: it segments the items that it is sent, with a network of its own."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import signal
import sys
import time
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any, NamedTuple

from esp_medsam.allocator import reuse_memory
from esp_medsam.errors import EspMedSamError
from esp_medsam.io.item import Item
from esp_medsam.workflows.plan import Plan, Plans
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.results import ItemResult, failure


_PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl: the signal that a process gets when the one that started it ends."""


class Ready(NamedTuple):
    """The network is there; the worker waits for items.

    Attributes:
        name: Host and process of the worker, such as ``node1:4711``.
    """

    name: str


class Broken(NamedTuple):
    """The worker cannot segment anything.

    Attributes:
        error: Why.
    """

    error: EspMedSamError


class Unfit(NamedTuple):
    """No worker can be where this one was to be.

    Attributes:
        error: Why.
    """

    error: EspMedSamError


class Reading(NamedTuple):
    """The current item is being read, or no longer.

    Attributes:
        begins: Whether it begins.
    """

    begins: bool


class Slices(NamedTuple):
    """Some slices of the current item are done.

    Attributes:
        done: How many.
        total: Of how many.
    """

    done: int
    total: int


Message = Ready | Broken | Unfit | Reading | Slices | ItemResult
"""What a worker sends; the last ends an item."""


def work(connection: Connection, request: Request, threads: int, level: int, tells: bool) -> None:
    """Segment items until the connection is closed; the target of the process.

    Args:
        connection: Receives items, and sends messages.
        request: The run's request.
        threads: Number of threads for the network on the CPU.
        level: Level of the log.
        tells: Whether to tell how many slices are done.
    """
    begin_process()
    if level <= logging.INFO:
        logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    import torch  # a worker that is told to end need not wait for these

    from esp_medsam.errors import chain_of, own_error
    from esp_medsam.workflows.pipeline import build
    from esp_medsam.workflows.segment import SegmentRun

    torch.set_num_threads(threads)
    reuse_memory()
    try:
        run: SegmentRun = build(request, plans=Plans(Plan(())))
    except Exception as error:
        if (own := own_error(error)) is None:
            raise
        connection.send(Broken(own))
        return
    _report(run, connection, tells=tells)
    connection.send(Ready(f"{platform.node()}:{os.getpid()}"))
    while True:
        try:
            item: Item = connection.recv()
        except EOFError:
            return
        start = time.perf_counter()
        try:
            result = run.segment(item)
        except Exception as error:
            if any(isinstance(each, torch.AcceleratorError) for each in chain_of(error)):
                os._exit(1)  # nothing can be computed on this GPU in this process any more
            result = failure(item.label, error, time.perf_counter() - start)
        connection.send(result)


def begin_process() -> None:
    """Prepare a process that another one started, and ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the run ends us
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _end_with_parent()


def _report(run: Any, connection: Connection, *, tells: bool) -> None:
    """Let a run send where it is."""
    preprocessing = run.preprocessing

    def read(data: dict[str, Any]) -> dict[str, Any]:
        connection.send(Reading(begins=True))
        prepared: dict[str, Any] = preprocessing(data)
        connection.send(Reading(begins=False))
        return prepared

    run.preprocessing = read
    if tells:
        run.tell_slices(lambda done, total: connection.send(Slices(done, total)))


def _end_with_parent() -> None:
    """Let this process end when the one that started it does: the next run must not meet it."""
    parent = parent_process()
    assert parent is not None, "a worker is started by one"

    def end() -> None:
        parent.join()
        os._exit(1)

    Thread(target=end, daemon=True).start()
    if sys.platform == "linux":  # the thread does not run while a library keeps Python waiting
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
