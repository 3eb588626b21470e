"""Worker processes that segment the items of a run; each may die without ending it."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esp_medsam.errors import DecodeCrashError, TimeUpError, WorkerDiedError
from esp_medsam.io.atomic import clear_temporaries
from esp_medsam.io.item import Item
from esp_medsam.workflows.item_loop import each_alone
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.results import ItemResult, failure
from esp_medsam.workflows.worker import Broken, Message, Reading, Ready, Slices, work


if TYPE_CHECKING:  # loads MONAI
    from esp_medsam.workflows.segment import SegmentRun
    from esp_medsam.workflows.worker_choice import WorkerChoice


logger = logging.getLogger(__name__)

SECONDS_TO_END = 5.0
"""Time that workers have to end before they are killed."""

_SPAWN = multiprocessing.get_context("spawn")  # a fork after torch has worked can hang


@dataclass(frozen=True)
class Job:
    """An item, and how often it was tried.

    Attributes:
        item: The item.
        attempt: Number of the attempt, from 0.
        died: How the worker of the attempt before died; empty for the first.
    """

    item: Item
    attempt: int = 0
    died: str = ""


class Worker:
    """A worker process as its run sees it.

    Args:
        request: What it segments with.
        threads: Number of threads for the network on the CPU.
        is_spare: Whether it is for one job alone.

    Attributes:
        job: Its current job.
        is_ready: Whether its network is loaded.
        is_reading: Whether it reads the item.
    """

    def __init__(self, request: Request, threads: int, *, is_spare: bool) -> None:
        self.is_spare = is_spare
        self.job: Job | None = None
        self.is_ready = self.is_reading = False
        self._latest = float("inf")
        self.connection, theirs = _SPAWN.Pipe()
        arguments = (theirs, request, threads, logging.getLogger().level)
        self.process = _SPAWN.Process(target=work, args=arguments)
        with _ignored_interrupts():
            self.process.start()
        theirs.close()  # so that the pipe ends with the worker

    def begin(self, job: Job) -> None:
        """Take a job; it is sent when the network is loaded."""
        self.job, self.is_reading = job, False
        if self.is_ready:
            with suppress(OSError):  # it has ended, which is seen next
                self.connection.send(job.item)

    def start_clock(self, most_seconds: float) -> None:
        """Let the current job end within a time from now on."""
        self._latest = time.monotonic() + most_seconds

    @property
    def seconds_left(self) -> float:
        """Time that the current job still has."""
        return self._latest - time.monotonic()

    def messages(self) -> Iterator[Message]:
        """Yield what it has sent so far."""
        try:
            while self.connection.poll():
                yield self.connection.recv()
        except (EOFError, OSError):  # it has ended
            return

    def end(self, seconds: float = SECONDS_TO_END) -> None:
        """End it: at once if it has a job, else when it has seen that there is none."""
        self.connection.close()
        if self.job is not None:
            self.process.terminate()
        self.process.join(max(0.0, seconds))
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    @property
    def death(self) -> str:
        """How it ended, in words."""
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"exit status {code}"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"


@contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """Let a process that is started ignore Ctrl-C: the run ends its workers itself."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


class Workers:
    """Worker processes of one run, started when there is something to do.

    An item whose worker dies is tried again with one slice at a time, then on the CPU; then it
    fails, alone. An item whose worker crashes while it reads is not tried again: it would crash
    again.

    Args:
        requests: What each worker segments with: the run's request, on the device of the worker.
        folder_of: Folder of an item's results.
        root: Folder of all results.
        threads: Number of threads of each worker.
        text: The workers as a line of text.
        most_seconds: Time that an item may take; None for any.
        on_slices: Called with the number of slices done and the total, of any item.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        *,
        folder_of: Callable[[Item], Path],
        root: Path,
        threads: int,
        text: str = "",
        most_seconds: float | None = None,
        on_slices: Callable[[int, int], None] | None = None,
    ) -> None:
        self.requests = list(requests)
        self.folder_of, self.root = folder_of, root
        self.threads, self.text = threads, text
        self.most_seconds = float("inf") if most_seconds is None else most_seconds
        self.on_slices = on_slices
        self._workers: dict[int, Worker] = {}
        self._closed = set[int]()
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
            [_with(request, device=device) for device in chosen.devices],
            folder_of=run.folder_of,
            root=run.outputs.output_dir,
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
        """Yield the outcome of each item as it arrives; a failed item never ends the run.

        Args:
            steps: Items, and refusals.
            attempt: Returns the outcome of what needs no worker, or None.
            failed: Returns the outcome of an item whose attempt raised.

        Raises:
            EspMedSamError: If no worker can work: the weights are not usable, for instance.
        """
        left = iter(steps)
        try:
            while True:
                if (place := self._free_place()) is not None:
                    if self._again:
                        self._begin(place, self._again.popleft())
                        continue
                    if (step := next(left, None)) is not None:
                        (outcome,) = each_alone([step], attempt, failed)
                        if outcome is not None:
                            yield outcome
                        elif isinstance(step, Item):
                            self._begin(place, Job(step))
                        continue
                if not any(worker.job for worker in self._workers.values()):
                    return
                yield from self._arrived()
        finally:
            self._end()

    def _free_place(self) -> int | None:
        """Return the number of a place without a job; None if all have one."""
        for place in range(len(self.requests)):
            if place in self._closed:
                continue
            if place not in self._workers or self._workers[place].job is None:
                return place
        return None

    def _begin(self, place: int, job: Job) -> None:
        """Let the worker of a place begin a job; it is another one for a job that was tried."""
        worker, is_spare = self._workers.get(place), job.attempt > 0
        if worker is not None and is_spare:
            worker.end()
        if worker is None or is_spare:
            request = _attempts(self.requests[place])[job.attempt]
            worker = self._workers[place] = Worker(request, self.threads, is_spare=is_spare)
        worker.begin(job)
        if worker.is_ready:
            worker.start_clock(self.most_seconds)

    def _arrived(self) -> Iterator[ItemResult]:
        """Wait until a worker sends something, dies or is late; yield the results."""
        busy = {place: worker for place, worker in self._workers.items() if worker.job}
        least = min(worker.seconds_left for worker in busy.values())
        events: list[Connection | int] = []
        for worker in busy.values():
            events += [worker.connection, worker.process.sentinel]
        wait(events, None if least == float("inf") else max(0.0, least))
        for place, worker in busy.items():
            for message in worker.messages():
                yield from self._taken(worker, message)
            if worker.job is not None and not worker.process.is_alive():
                # What it sent last may have arrived between the two looks.
                for message in worker.messages():
                    yield from self._taken(worker, message)
            if worker.job is not None and not worker.process.is_alive():
                yield from self._dead(place, worker)
            elif worker.job is not None and worker.seconds_left <= 0:
                yield self._late(place, worker)
            elif worker.job is None and worker.is_spare:
                self._remove(place)

    def _taken(self, worker: Worker, message: Message) -> Iterator[ItemResult]:
        """Take a message, and yield the result if it is one."""
        match message:
            case Broken(error):
                raise error
            case Ready():
                worker.is_ready = True
                assert worker.job is not None, "a worker is started for one"
                worker.begin(worker.job)
                worker.start_clock(self.most_seconds)
            case Reading(begins):
                worker.is_reading = begins
            case Slices(done, total) if self.on_slices is not None:
                self.on_slices(done, total)
            case ItemResult():
                assert worker.job is not None, "what it did"
                yield _told(message, worker.job)
                worker.job = None
            case _:
                pass

    def _dead(self, place: int, worker: Worker) -> Iterator[ItemResult]:
        """Let the job of a worker that died be tried again, or yield its failure."""
        job, died = worker.job, worker.death
        assert job is not None, "it died with one"
        self._remove(place)
        logger.warning("A worker ended by %s.", died)
        if not worker.is_ready and job.attempt == 0:
            self._closed.add(place)
            if len(self._closed) == len(self.requests):
                msg = f"A worker must be able to start; it ended by {died}. Read what it printed, "
                raise WorkerDiedError(msg + "or segment in this process with workers=0.")
            self._again.append(job)
            return
        is_crash = worker.is_reading and died != "SIGKILL"  # which the system sends for memory
        if not is_crash and job.attempt + 1 < len(_attempts(self.requests[place])):
            self._again.append(Job(job.item, job.attempt + 1, died))
            return
        if is_crash:
            msg = f"{job.item.label} must be readable; its decoder ended the process by {died}. "
            yield failure(job.item.label, DecodeCrashError(msg + "Export it again."))
            return
        msg = f"{job.item.label} must be segmented by a process that lives; {job.attempt + 1} of "
        msg += f"them died, the last by {died}. Free memory, or choose a smaller input_size."
        yield failure(job.item.label, WorkerDiedError(msg))

    def _late(self, place: int, worker: Worker) -> ItemResult:
        """End a worker whose job takes too long, and return the failure."""
        assert worker.job is not None, "it takes too long"
        label = worker.job.item.label
        self._remove(place)
        msg = f"{label} must be segmented within {self.most_seconds:g} s; it was not. Allow more "
        return failure(label, TimeUpError(f"{msg}time (timeout)."), self.most_seconds)

    def _remove(self, place: int) -> None:
        """End a worker, and remove what it left half-written."""
        worker = self._workers.pop(place)
        worker.end(0.0 if worker.job else SECONDS_TO_END)
        if worker.job is not None:
            clear_temporaries(self.folder_of(worker.job.item), self.root)

    def _end(self) -> None:
        for worker in self._workers.values():
            if worker.job is not None:
                worker.process.terminate()
            else:
                worker.connection.close()  # so that all end at the same time
        for place in list(self._workers):
            self._remove(place)


def _attempts(request: Request) -> list[Request]:
    """Return what the attempts of an item segment with, one after the other."""
    one_slice = _with(request, slice_batch=1)
    if request.settings.get("device") == "cpu":
        return [request, one_slice]
    return [request, one_slice, _with(one_slice, device="cpu")]


def _with(request: Request, **settings: Any) -> Request:
    held: Mapping[str, Any] = {**request.settings, **settings}
    return replace(request, settings=held)


def _told(result: ItemResult, job: Job) -> ItemResult:
    """Return a result, with a warning if it is not that of the first attempt."""
    if not job.attempt:
        return result
    told = f"Segmented in attempt {job.attempt + 1}: the process before ended by {job.died}."
    return replace(result, warnings=(*result.warnings, told))
