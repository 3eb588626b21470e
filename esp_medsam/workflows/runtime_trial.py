"""Find the fastest runtime of this machine, once, by a trial whose outcome is kept."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait

from esp_medsam.networks.fusion import fuse
from esp_medsam.networks.inference_network import InferenceNetwork
from esp_medsam.runtimes import RUNTIMES
from esp_medsam.runtimes.kinds import EAGER
from esp_medsam.settings import InferenceSettings
from esp_medsam.workflows.attempts import with_settings
from esp_medsam.workflows.pipeline import build, read_config
from esp_medsam.workflows.plan import Plan, Plans
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.runtime_choice import (
    AUTO,
    Choice,
    Measured,
    asked_of,
    candidates,
    read_choice,
    settled_runtime,
    situation_of,
    write_choice,
)
from esp_medsam.workflows.runtime_timing import Timing, time_in_process
from esp_medsam.workflows.worker_process import ended_by


MOST_SECONDS = 20.0
"""Time of a trial, from the start of the processes to the last measurement."""

MOST_UNFINISHED = 2
"""How often a trial that was too short is made; what it built meanwhile is kept for the next."""

_SPAWN = multiprocessing.get_context("spawn")


def settled(
    request: Request, *, threads: int, is_worth_it: bool, tell: Callable[[str], None]
) -> Request:
    """Return a request that names its runtime, after a trial if it asks for the fastest.

    Args:
        request: The request.
        threads: Number of threads that compute.
        is_worth_it: Whether the run is long enough for a trial, if none was made before.
        tell: Is told of a trial.

    Raises:
        EspMedSamError: If a setting is invalid.
    """
    settings = read_config(request).get_parsed_content("settings")
    if not isinstance(settings, InferenceSettings) or asked_of(settings.runtime) != AUTO:
        return request
    choice = measured(request, settings, threads=threads, tell=tell) if is_worth_it else None
    name = settled_runtime(settings) if choice is None else choice.name
    return with_settings(request, runtime=name)


def measured(
    request: Request,
    settings: InferenceSettings,
    *,
    threads: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Choice | None:
    """Return what was measured on this machine, now if it was not before; None without candidates.

    Args:
        request: A request.
        settings: Its settings.
        threads: Number of threads that compute.
        tell: Is told when a trial begins, and what it found.
    """
    kinds = candidates(settings)
    if not kinds:
        return None
    situation = situation_of(settings)
    before = read_choice(situation)
    if before is not None and not 0 < before.unfinished < MOST_UNFINISHED:
        return before
    names = [kind.name for kind in kinds]
    tell(f"Trying out {' and '.join(names)}, once, for up to {MOST_SECONDS:.0f} s")
    found = {one.name: one for one in _tried(request, settings, names, threads)}
    told = f"not ready within {MOST_SECONDS:.0f} s"
    rows = [found.get(k.name) or Measured(name=k.name, version=k.version, told=told) for k in kinds]
    tried = (0 if before is None else before.unfinished) + 1
    choice = write_choice(situation, rows, tried if len(found) < len(kinds) else 0)
    tell(f"{'; '.join(one.text for one in rows)}; {choice.name} is used")
    return choice


def _tried(
    request: Request, settings: InferenceSettings, names: Sequence[str], threads: int
) -> list[Measured]:
    """Return what was measured of runtimes, one after the other, as far as the time allows."""
    run = build(with_settings(request, runtime=EAGER, device="cpu"), plans=Plans(Plan(())))
    if not isinstance(run.network, InferenceNetwork) or settings.is_native:
        return []
    modality = settings.modality if isinstance(settings.modality, str) else ""
    held = run.network.network
    single = fuse(held, modality if modality in held.modalities else held.default_modality)
    trials = [
        _Trial(Timing(name, single, settings.input_size, settings.device, threads))
        for name in names
    ]
    latest = time.monotonic() + MOST_SECONDS
    try:
        return [found for each in trials if (found := each.result(latest)) is not None]
    finally:
        for each in trials:
            each.end()


class _Trial:
    """A process that times a runtime when it is asked to; several load at the same time."""

    def __init__(self, timing: Timing) -> None:
        self._name = timing.name
        self._connection, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=time_in_process, args=(theirs, timing), daemon=True)
        self._process.start()
        theirs.close()

    def result(self, latest: float) -> Measured | None:
        """Return what was measured; None if it was not by a time of the monotonic clock."""
        with suppress(OSError):  # it has ended, which is seen next
            self._connection.send(None)
        if not wait([self._connection], max(0.0, latest - time.monotonic())):
            return None
        try:
            found: Measured = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(1)
            told = f"its process ended by {ended_by(self._process.exitcode)}"
            return Measured(name=self._name, version=RUNTIMES[self._name].version, told=told)
        return found

    def end(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.kill()
        self._process.join()
