"""What a run asks of workers, wherever they are: of one, of the engine that starts them, of all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Protocol

from esp_medsam.io.item import Item
from esp_medsam.workflows.attempts import Job
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.results import ItemResult
from esp_medsam.workflows.worker import Message


class Worker(Protocol):
    """One worker, as its run sees it.

    Attributes:
        is_spare: Whether it is for one job alone.
        job: Its current job.
        name: Host and process, once its network is loaded.
        is_ready: Whether its network is loaded.
        is_reading: Whether it reads the item.
    """

    is_spare: bool
    job: Job | None
    name: str
    is_ready: bool
    is_reading: bool

    def start(self) -> None:
        """Start it; it gets its job when its network is loaded.

        Raises:
            OSError: If the system cannot.
        """

    def begin(self, job: Job, most_seconds: float) -> None:
        """Take a job, which must end within a time; it is sent when the network is loaded."""

    @property
    def seconds_left(self) -> float:
        """Time that the current job, or the start, still has."""

    def is_alive(self) -> bool:
        """Whether it lives."""

    def messages(self) -> Iterator[Message]:
        """Yield what it has sent so far."""

    def ask_to_end(self) -> None:
        """Let it end: at once if it has a job, else when it sees that no more will come."""

    def end(self) -> None:
        """End it, and wait until it has."""

    @property
    def has_crashed(self) -> bool:
        """Whether a library's own fault ended it."""

    @property
    def death(self) -> str:
        """How it ended, in words."""


class Engine(Protocol):
    """Starts workers, and waits for what they do.

    Attributes:
        shares_memory: Whether all workers are on one machine, so that what needs all of its memory
            must be alone.
        shares_devices: Whether workers of the same device, by name, share it.
        keeps_waiting: Whether a worker may have to wait for its place, so that another that is idle
            takes its job over.
    """

    shares_memory: bool
    shares_devices: bool
    keeps_waiting: bool

    def worker(self, request: Request, threads: int, *, is_spare: bool, tells: bool) -> Worker:
        """Return a worker that is not started yet.

        Args:
            request: What it segments with.
            threads: Number of threads for the network on the CPU.
            is_spare: Whether it is for one job alone.
            tells: Whether it tells how many slices are done.
        """

    def wait(self, workers: Collection[Worker], most_seconds: float) -> None:
        """Wait until one of some workers has sent something, or has ended, or a time is over."""


class Pool(Protocol):
    """The workers of a run."""

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
            EspMedSamError: If no worker can start: the weights are not usable, for instance.
        """

    def tell_slices(self, on_slices: Callable[[int, int], None]) -> None:
        """Report the slices done to a function while an item is segmented, if one is at a time.

        Args:
            on_slices: Called with the number of slices done and the total number.
        """
