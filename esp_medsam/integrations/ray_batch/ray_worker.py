"""A worker on a cluster as its run sees it: an actor that is placed, sent to, heard and ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from esp_medsam.errors import ClusterError, WorkerDiedError
from esp_medsam.integrations.ray_batch.actor import Heard
from esp_medsam.workflows.attempts import Job
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.worker import Message, Unfit
from esp_medsam.workflows.worker_process import SECONDS_TO_END


_MOST_STARTS = 3
"""Number of actors that are made, if none of them lives until it has its place."""


class RayWorker:
    """One actor, and the worker process that it keeps.

    One call to the actor is always under way while it has a job, so that its end is seen at once.

    Args:
        ray: The package, connected.
        make: Makes the actor.
        arguments: Request, threads, and whether the slices done are told.
        resources: What the actor takes of its node.
        is_spare: Whether it is for one job alone.

    Attributes:
        asked: The call under way.
        is_placed: Whether it has its place in the cluster.
    """

    def __init__(
        self,
        ray: Any,
        make: Callable[[], Any],
        arguments: tuple[Request, int, bool],
        resources: Mapping[str, float],
        *,
        is_spare: bool,
    ) -> None:
        self.is_spare = is_spare
        self.job: Job | None = None
        self.name = ""
        self.is_ready = self.is_reading = self.is_placed = False
        self.has_crashed, self.death = False, ""
        self.asked: Any = None
        self.resources = resources
        self._ray, self._make, self._arguments = ray, make, arguments
        self._actor: Any = None
        self._node, self._starts = "", 0
        self._most_seconds = self._latest = float("inf")
        self._stopping: Any = None
        self._has_ended = False

    def start(self) -> None:
        """Ask the cluster for the actor; it may wait for its place."""
        self._starts += 1
        self._actor = self._make()
        self.asked = self._actor.enter.remote()

    def begin(self, job: Job, most_seconds: float) -> None:
        """Take a job, which must end within a time; it is sent when the network is loaded."""
        self.job, self.is_reading = job, False
        self._most_seconds = most_seconds
        self.extend()
        if self.is_ready:
            self.asked = self._actor.segment.remote(job.item)

    def extend(self) -> None:
        """Let the time for the job, or for the start, begin now."""
        self._latest = time.monotonic() + self._most_seconds

    @property
    def seconds_left(self) -> float:
        """Time that the current job, or the start, still has."""
        return self._latest - time.monotonic()

    def is_alive(self) -> bool:
        """Whether it lives, as far as is known."""
        return not self.death

    def messages(self) -> Iterator[Message]:
        """Yield what it has sent so far."""
        if not self._has_arrived():
            yield from self._unplaced()
            return
        asked, self.asked = self.asked, None
        try:
            heard = self._ray.get(asked)
        except self._ray.exceptions.RayError as error:
            yield from self._failed(error)
            return
        if not isinstance(heard, Heard):
            yield from self._entered(*heard)
            return
        yield from heard.messages
        if heard.death is not None:
            self.death, self.has_crashed = heard.death.text, heard.death.is_crash
        elif self.job is not None and self.asked is None and not self._has_ended:
            self.asked = self._actor.listen.remote()

    def ask_to_end(self) -> None:
        """Let it end: at once if it has a job, else when it sees that no more will come."""
        self._has_ended = True
        if self.is_placed and not self.death and self._stopping is None:
            with suppress(Exception):  # whatever a cluster that is gone may raise
                self._stopping = self._actor.stop.remote()

    def end(self) -> None:
        """End it, and wait until it has."""
        self.ask_to_end()
        with suppress(Exception):  # whatever a cluster that is gone may raise
            if self._stopping is not None:
                self._ray.get(self._stopping, timeout=SECONDS_TO_END)
        with suppress(Exception):
            if self._actor is not None:
                self._ray.kill(self._actor)

    def _has_arrived(self) -> bool:
        if self.asked is None or self._has_ended:
            return False
        return bool(self._ray.wait([self.asked], num_returns=1, timeout=0)[0])

    def _entered(self, node: str, unfit: Unfit | None) -> Iterator[Message]:
        """Start the process on a node that sees what it must."""
        self._node, self.is_placed = node, True
        self.extend()
        if unfit is not None:
            yield unfit
        else:
            self.asked = self._actor.start.remote(*self._arguments)

    def _unplaced(self) -> Iterator[Message]:
        """Give up waiting for a place when the time is over."""
        if self.is_placed or self.asked is None or self.seconds_left > 0:
            return
        msg = f"The cluster must have {wanted_text(self.resources)} free for a worker within "
        msg += f"{self._most_seconds:g} s; it had not. Use fewer `workers`, or end what else runs."
        yield Unfit(WorkerDiedError(msg))

    def _failed(self, error: Exception) -> Iterator[Message]:
        """Take a call that did not return: the actor has ended, or could not be made."""
        kinds = self._ray.exceptions
        if self.is_placed or isinstance(error, kinds.NodeDiedError | kinds.OutOfMemoryError):
            is_full = isinstance(error, kinds.OutOfMemoryError)
            told = "Ray, for lack of memory" if is_full else "the end of its Ray actor"
            self.death = f"{told} on {self._node}" if self._node else told
            return
        if self._starts < _MOST_STARTS:  # it was placed on a node that was just being lost
            self.start()
            return
        kind = type(getattr(error, "cause", None) or error).__name__
        msg = "Every node of the cluster must be able to start a worker; one was not "
        msg += f"({kind}). Install the same esp-medsam, Python and Ray on all of them."
        yield Unfit(ClusterError(msg))


def wanted_text(resources: Mapping[str, float]) -> str:
    """Return what an actor takes of its node, in words."""
    names = (("GPU", resources.get("num_gpus", 0)), ("CPU", resources.get("num_cpus", 0)))
    return " and ".join(f"{count:g} {name}{'s' * (count > 1)}" for name, count in names if count)
