"""Time one runtime beside PyTorch, in a process of its own, since a library may crash."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch

from esp_medsam.allocator import reuse_memory
from esp_medsam.errors import explain
from esp_medsam.networks import ESPMedSAM
from esp_medsam.runtimes import RUNTIMES, RuntimeNetwork
from esp_medsam.runtimes.agreement import phantom
from esp_medsam.workflows.engine_store import EngineStore
from esp_medsam.workflows.runtime_choice import Measured
from esp_medsam.workflows.worker import begin_process


PAIRS = 7
"""Number of times that the runtime and PyTorch are timed in turns."""

SECONDS_OF_PAIRS = 4.0
"""Time after which no further pair begins."""


class Timing(NamedTuple):
    """What to time.

    Attributes:
        name: Name of the runtime.
        network: Network that holds one modality, rewritten, on the CPU.
        size: ``(H, W)`` of the input.
        device: Device to compute on.
        threads: Number of threads that compute.
    """

    name: str
    network: ESPMedSAM
    size: tuple[int, int]
    device: str
    threads: int


def time_in_process(connection: Connection, timing: Timing) -> None:
    """Time a runtime when it is its turn, and send what was measured; the target of a process."""
    begin_process()
    torch.set_num_threads(timing.threads)
    reuse_memory()  # as workers do
    try:
        connection.recv()
        found = measured(timing)
    except EOFError:  # nobody waits any more
        return
    except Exception as error:
        told = explain(error) or f"{type(error).__name__}: {error}"
        found = _without(timing.name, told)
    connection.send(found)


def measured(timing: Timing) -> Measured:
    """Return what is measured of a runtime."""
    network = timing.network.to(timing.device)
    runtime = RUNTIMES[timing.name]
    image = phantom(*timing.size).to(timing.device)
    by_runtime = RuntimeNetwork(network, runtime, EngineStore)
    with torch.no_grad():
        by_runtime.encode(image, None)
        if by_runtime.failure or by_runtime.agreement is None:
            return _without(timing.name, by_runtime.failure)
        own: list[float] = []
        theirs: list[float] = []
        began = time.monotonic()
        while len(own) < 2 or (len(own) < PAIRS and time.monotonic() - began < SECONDS_OF_PAIRS):
            own.append(_seconds(lambda: network.encode(image, None), timing.device))
            theirs.append(_seconds(lambda: by_runtime.encode(image, None), timing.device))
    return Measured(
        name=timing.name,
        version=runtime.version,
        seconds=statistics.median(theirs),
        ratio=statistics.median(b / a for a, b in zip(own, theirs, strict=True)),
        difference=by_runtime.agreement.difference,
        dice=by_runtime.agreement.dice,
    )


def _without(name: str, told: str) -> Measured:
    return Measured(name=name, version=RUNTIMES[name].version, told=told)


def _seconds(run: Callable[[], object], device: str) -> float:
    """Return the wall time of a call, until a GPU has done it."""
    began = time.perf_counter()
    run()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
