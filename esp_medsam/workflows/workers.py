"""Worker processes that segment the items of a run; each may die without ending it."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from esp_medsam.errors import (
    DecodeCrashError,
    EspMedSamError,
    TimeUpError,
    TooLargeError,
    WorkerDiedError,
    one_line,
)
from esp_medsam.io.item import Item
from esp_medsam.workflows.attempts import Job, attempt_of, attempts_of, with_settings
from esp_medsam.workflows.engine import Engine, Worker
from esp_medsam.workflows.item_loop import each_alone
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.results import ItemResult, failure
from esp_medsam.workflows.worker import Broken, Message, Reading, Ready, Slices, Unfit
from esp_medsam.workflows.worker_process import WorkerProcess


if TYPE_CHECKING:  # loads MONAI
    from esp_medsam.workflows.segment import SegmentRun
    from esp_medsam.workflows.worker_choice import WorkerChoice


logger = logging.getLogger(__name__)

MOST_SECONDS_TO_START = 900.0
"""Time that a worker may take to load its network, before it counts as dead."""

_MOST_SECONDS_TO_WAIT = 3600.0
"""Time after which the workers are looked at, though none has sent anything."""


class Processes:
    """Engine whose workers are processes of this machine."""

    shares_memory, shares_devices, keeps_waiting = True, True, False

    def worker(
        self, request: Request, threads: int, *, is_spare: bool, tells: bool
    ) -> WorkerProcess[Job]:
        """Return a process that is not started yet."""
        return WorkerProcess(request, threads, is_spare=is_spare, tells=tells)

    def wait(self, workers: Collection[Any], most_seconds: float) -> None:
        """Wait until a process has sent something, or has ended, or a time is over."""
        events: list[Connection | int] = []
        for worker in workers:
            events += [worker.connection, worker.sentinel]
        wait(events, most_seconds)


class Workers:
    """Workers of one run, started when there is something to do.

    An item whose worker dies is tried again while no other works: with one slice at a time, then
    on the CPU; then it fails, alone. An item whose worker crashes while it reads is not tried
    again: it would crash again. One that is too large beside others is tried again alone.

    Args:
        requests: What each worker segments with: the run's request, on the device of the worker.
        clean: Removes what a process that was ended left of an item's result.
        threads: Number of threads of each worker.
        text: The workers as a line of text.
        most_seconds: Time that an item may take; None for any.
        engine: Starts them; None means processes of this machine.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        *,
        clean: Callable[[Item], None],
        threads: int,
        text: str = "",
        most_seconds: float | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.requests = list(requests)
        self.clean = clean
        self.threads, self.text = threads, text
        self.most_seconds = float("inf") if most_seconds is None else most_seconds
        self._engine = engine or Processes()
        self._on_slices: Callable[[int, int], None] | None = None
        self._workers: dict[int, Worker] = {}
        self._closed = set[int]()
        self._has_worked = False
        self._not_started_on_gpu = Counter[int]()
        self._again = deque[Job]()

    @classmethod
    def of(
        cls,
        run: SegmentRun,
        request: Request,
        chosen: WorkerChoice,
        most_seconds: float | None = None,
    ) -> Workers:
        """Return the workers of a run.

        Args:
            run: The run, built without a network.
            request: Its request.
            chosen: Devices and threads of the workers.
            most_seconds: Time that an item may take; None for any.
        """
        return cls(
            [with_settings(request, device=device) for device in chosen.devices],
            clean=run.clean,
            threads=chosen.threads,
            text=chosen.text,
            most_seconds=most_seconds,
        )

    def each(
        self,
        steps: Iterable[Item | Refusal],
        attempt: Callable[[Item | Refusal], ItemResult | None],
        failed: Callable[[Item | Refusal, Exception], ItemResult],
    ) -> Iterator[ItemResult]:
        """Yield the outcome of each item; see :meth:`~esp_medsam.workflows.engine.Pool.each`."""
        left = iter(steps)
        try:
            while True:
                place, step = self._free_place(), None
                if place is not None and self._again:
                    yield from self._begun(place, self._again.popleft())
                elif place is not None and (step := next(left, None)) is not None:
                    (outcome,) = each_alone([step], attempt, failed)
                    if outcome is not None:
                        yield outcome
                    elif isinstance(step, Item):
                        yield from self._begun(place, Job(step))
                elif place is not None and self._taken_over():
                    pass
                elif not self._busy:
                    return
                has_more = place is not None and (step is not None or bool(self._again))
                yield from self._arrived(0.0 if has_more else _MOST_SECONDS_TO_WAIT)
        finally:
            self._end()

    def tell_slices(self, on_slices: Callable[[int, int], None]) -> None:
        """Report the slices done to a function while an item is segmented, if one is at a time.

        Args:
            on_slices: Called with the number of slices done and the total number.
        """
        if len(self.requests) == 1:
            self._on_slices = on_slices

    @property
    def _busy(self) -> dict[int, Worker]:
        """Workers that have a job, by their places."""
        return {place: worker for place, worker in self._workers.items() if worker.job}

    def _free_place(self) -> int | None:
        """Return the number of a place for what is next; None if it must wait."""
        busy = self._busy
        is_alone = any(worker.job and worker.job.is_alone for worker in busy.values())
        is_alone = is_alone or bool(self._again and self._again[0].is_alone)
        if busy and is_alone and self._engine.shares_memory:
            return None
        places = (one for one in range(len(self.requests)) if one not in self._closed)
        return next((place for place in places if place not in busy), None)

    def _taken_over(self) -> bool:
        """Let an idle worker do for one that waits for its place; whether there are both.

        It takes the job over, or ends, and so leaves its place, if the job needs another worker.
        """
        waiting = [place for place, worker in self._busy.items() if not worker.is_ready]
        held = self._workers.items()
        idle = [place for place, worker in held if worker.is_ready and not worker.job]
        if not (self._engine.keeps_waiting and waiting and idle):
            return False
        worker = self._workers[waiting[0]]
        if worker.is_spare:
            self._remove(idle[0])
            return True
        job, worker.job = worker.job, None
        assert job is not None, "it waits with one"
        self._remove(waiting[0])
        self._send(self._workers[idle[0]], job)
        return True

    def _begun(self, place: int, job: Job) -> Iterator[ItemResult]:
        """Let the worker of a place begin a job; it is another one for a job that was tried."""
        is_spare = job.attempt > 0
        if is_spare and place in self._workers:
            self._remove(place)
        worker = self._workers.get(place)
        if worker is None:
            request = attempt_of(self.requests[place], job.attempt)
            tells = self._on_slices is not None
            try:
                worker = self._engine.worker(request, self.threads, is_spare=is_spare, tells=tells)
                self._workers[place] = worker
                worker.begin(job, MOST_SECONDS_TO_START)
                worker.start()
            except OSError as error:
                told = f"the system, which could not start it: {error.strerror}"
                yield from self._not_started(place, job, told)
        else:
            self._send(worker, job)

    def _send(self, worker: Worker, job: Job) -> None:
        """Let a worker that is ready have a job."""
        worker.begin(replace(job, tries=job.tries + 1), self.most_seconds)

    def _arrived(self, most_seconds: float) -> Iterator[ItemResult]:
        """Wait until a worker sends something, ends or is late; yield the results."""
        busy = self._busy
        if not busy:
            return
        least = min(worker.seconds_left for worker in busy.values())
        self._engine.wait(busy.values(), max(0.0, min(least, most_seconds)))
        for place, worker in busy.items():
            # Before its messages are read: all have arrived then.
            is_alive, is_late = worker.is_alive(), worker.seconds_left <= 0
            for message in worker.messages():
                yield from self._taken(place, worker, message)
            if worker.job is None:
                if worker.is_spare or not is_alive:
                    self._remove(place)
            elif self._workers.get(place) is worker and not is_alive:
                yield from self._dead(place, worker)
            elif self._workers.get(place) is worker and is_late:
                yield from self._late(place, worker)

    def _taken(self, place: int, worker: Worker, message: Message) -> Iterator[ItemResult]:
        """Take a message, and yield the result if it is one."""
        job = worker.job
        assert job is not None, "a worker is started for one"
        match message:
            case Broken(error):
                yield from self._not_started(place, job, error.code, error)
            case Unfit(error):
                logger.warning("There is one worker less: %s", one_line(str(error)))
                self._remove(place)
                self._close(place, job, error)
            case Ready(name):
                worker.name, self._has_worked, worker.is_ready = name, True, True
                self._send(worker, job)
            case Reading(begins):
                worker.is_reading = begins
            case Slices(done, total) if self._on_slices is not None:
                self._on_slices(done, total)
            case ItemResult(code=TooLargeError.code) if len(self._busy) > 1 and not job.is_alone:
                worker.job = None
                self._again.append(replace(job, is_alone=True))
            case ItemResult():
                worker.job = None
                yield job.told(message, worker.name)
            case _:
                pass

    def _dead(self, place: int, worker: Worker) -> Iterator[ItemResult]:
        """Let the job of a worker that died be tried again, or yield its failure."""
        job, died = worker.job, worker.death
        assert job is not None, "it died with one"
        if not worker.is_ready:
            yield from self._not_started(place, job, died)
            return
        is_crash = worker.is_reading and worker.has_crashed
        self._remove(place)
        if is_crash:
            msg = f"{job.item.label} must be readable; its decoder ended the process by {died}. "
            failed: ItemResult = failure(job.item.label, DecodeCrashError(msg + "Export it again."))
            yield job.told(failed, worker.name)
            return
        yield from self._tried(place, job, died, worker.name)

    def _tried(self, place: int, job: Job, died: str, name: str = "") -> Iterator[ItemResult]:
        """Let a job be tried again in another way, or yield its failure if there is none left."""
        logger.info("A worker of %s ended by %s.", one_line(job.item.label), died)
        if job.attempt + 1 < len(attempts_of(self.requests[place])):
            self._again.append(replace(job, attempt=job.attempt + 1, died=died, is_alone=True))
            return
        msg = f"{job.item.label} must be segmented by a worker that lives; {job.attempt + 1} of "
        msg += f"them ended, the last by {died}. Free memory, use fewer `workers`, or choose a "
        failed: ItemResult = failure(job.item.label, WorkerDiedError(f"{msg}smaller `input_size`."))
        yield job.told(failed, name)

    def _not_started(
        self, place: int, job: Job, died: str, error: EspMedSamError | None = None
    ) -> Iterator[ItemResult]:
        """Go on without a worker that did not start: on the CPU, if it was to use a GPU.

        A GPU whose workers do not start twice is not tried again. One that has another worker goes
        on with that one.

        Raises:
            EspMedSamError: If none has ever started, and none is left that could.
        """
        if place in self._workers:
            self._remove(place)
        if self._has_worked:
            attempts = attempts_of(self.requests[place])
            device = attempt_of(self.requests[place], job.attempt).settings["device"]
            if device == "cpu":
                yield from self._tried(place, job, died)
                return
            if self._engine.shares_devices and self._has_other(place, device):
                logger.warning("There is one worker less on %s: one did not start.", device)
                self._closed.add(place)
                self._again.append(job)
                return
            logger.warning("A worker on %s did not start (%s); the CPU takes over.", device, died)
            self._not_started_on_gpu[place] += 1
            if self._not_started_on_gpu[place] > 1:
                self.requests[place] = with_settings(self.requests[place], device="cpu")
                attempts = attempts_of(self.requests[place])
            last = len(attempts) - 1
            self._again.append(replace(job, attempt=last, died=died, is_alone=True))
            return
        msg = f"A worker must be able to start; it ended by {died}. Read what it printed, or let "
        msg += "`workers` be 0, which segments in this process."
        self._close(place, job, error or WorkerDiedError(msg))

    def _has_other(self, place: int, device: str) -> bool:
        """Whether a worker of another place lives on a GPU, which may have no room for two."""
        return any(
            worker.is_ready
            and worker.is_alive()
            and self.requests[other].settings["device"] == device
            for other, worker in self._workers.items()
            if other != place
        )

    def _close(self, place: int, job: Job, error: EspMedSamError) -> None:
        """Do without a place from now on, and let another one have its job.

        Raises:
            EspMedSamError: The error, if no place is left.
        """
        self._closed.add(place)
        if len(self._closed) == len(self.requests):
            raise error
        self._again.append(job)

    def _late(self, place: int, worker: Worker) -> Iterator[ItemResult]:
        """End a worker that takes too long, and yield the failure of its job."""
        job = worker.job
        assert job is not None, "it takes too long"
        if not worker.is_ready:
            told = f"a start of more than {MOST_SECONDS_TO_START:g} s"
            yield from self._not_started(place, job, told)
            return
        label = job.item.label
        self._remove(place)
        msg = f"{label} must be segmented within {self.most_seconds:g} s; it was not. Allow more "
        failed: ItemResult = failure(label, TimeUpError(f"{msg}with `timeout`."), self.most_seconds)
        yield job.told(failed, worker.name)

    def _remove(self, place: int) -> None:
        """End a worker, and remove what it left half-written."""
        worker = self._workers.pop(place)
        worker.end()
        if worker.job is not None:
            with suppress(EspMedSamError):  # the next run replaces what cannot be removed now
                self.clean(worker.job.item)

    def _end(self) -> None:
        for worker in self._workers.values():
            worker.ask_to_end()  # so that all end at the same time
        for place in list(self._workers):
            self._remove(place)
