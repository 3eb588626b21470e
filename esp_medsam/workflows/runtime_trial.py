"""Find the fastest runtime of this machine, once, by a trial whose outcome is kept."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait

from esp_medsam.errors import one_line
from esp_medsam.networks import ESPMedSAM
from esp_medsam.networks.fusion import fuse
from esp_medsam.networks.inference_network import InferenceNetwork
from esp_medsam.runtimes import RUNTIMES
from esp_medsam.runtimes.kinds import EAGER
from esp_medsam.settings import InferenceSettings
from esp_medsam.workflows.attempts import with_settings
from esp_medsam.workflows.pipeline import build, check_settings, read_config
from esp_medsam.workflows.plan import Plan, Plans
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.runtime_choice import (
    AUTO,
    Choice,
    Measured,
    asked_of,
    candidates,
    read_choice,
    situation_of,
    write_choice,
)
from esp_medsam.workflows.runtime_timing import Timing, time_in_process
from esp_medsam.workflows.worker_process import ended_by


MOST_SECONDS = 20.0
"""Time of a trial, from the start of the processes to the last measurement."""

MOST_UNFINISHED = 2
"""How often a trial that was too short is made; what it built meanwhile is kept for the next."""

ENDED = "its process ended by"
"""Beginning of what is told of a trial that something ended; it is made once more."""

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
    check_settings(settings)
    # An engine takes longer to load than PyTorch to segment a picture.
    choice = measured(request, settings, threads=threads, tell=tell) if is_worth_it else None
    return with_settings(request, runtime=EAGER if choice is None else choice.name)


def measured(
    request: Request,
    settings: InferenceSettings,
    *,
    threads: int,
    tell: Callable[[str], None] = lambda _: None,
    anew: bool = False,
) -> Choice | None:
    """Return what was measured on this machine, now if it was not before; None if nothing can be.

    Args:
        request: A request.
        settings: Its settings.
        threads: Number of threads that compute.
        tell: Is told when a trial begins, and what it found.
        anew: Whether to measure even if it was done before.
    """
    kinds = candidates(settings)
    if not kinds:
        return None
    situation = situation_of(settings)
    before = read_choice(situation)
    is_final = before is not None and not 0 < before.unfinished < MOST_UNFINISHED
    if before is not None and is_final and not anew:
        return before
    single = _single(request, settings)
    if single is None:
        return None
    names = [kind.name for kind in kinds]
    tell(f"Trying out {' and '.join(names)}, once, for up to {MOST_SECONDS:.0f} s")
    try:
        found = {one.name: one for one in _tried(single, settings, names, threads)}
    except (OSError, RuntimeError) as error:  # too little memory for another process, for instance
        tell(f"The trial failed: {one_line(str(error))}; PyTorch is used")
        return None
    told = f"not ready within {MOST_SECONDS:.0f} s"
    rows = [found.get(k.name) or Measured(name=k.name, version=k.version, told=told) for k in kinds]
    tried = (0 if before is None else before.unfinished) + 1
    is_unfinished = any(one.told == told or one.told.startswith(ENDED) for one in rows)
    choice = write_choice(situation, rows, tried if is_unfinished else 0)
    tell(f"{'; '.join(one.text for one in rows)}; {choice.name} is used")
    return choice


def _single(request: Request, settings: InferenceSettings) -> ESPMedSAM | None:
    """Return the rewritten network of the run's modality; None for a network of another kind."""
    run = build(with_settings(request, runtime=EAGER, device="cpu"), plans=Plans(Plan(())))
    if not isinstance(run.network, InferenceNetwork):
        return None
    modality = settings.modality if isinstance(settings.modality, str) else ""
    held = run.network.network
    return fuse(held, modality if modality in held.modalities else held.default_modality)


def _tried(
    single: ESPMedSAM, settings: InferenceSettings, names: Sequence[str], threads: int
) -> list[Measured]:
    """Return what was measured of runtimes, one after the other, as far as the time allows."""
    trials: list[_Trial] = []
    latest = time.monotonic() + MOST_SECONDS
    try:
        for name in names:
            timing = Timing(name, single, settings.input_size, settings.device, threads)
            trials.append(_Trial(timing))
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
            told = f"{ENDED} {ended_by(self._process.exitcode)}"
            return Measured(name=self._name, version=RUNTIMES[self._name].version, told=told)
        return found

    def end(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.kill()
        self._process.join()
