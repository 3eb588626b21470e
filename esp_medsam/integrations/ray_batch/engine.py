"""The engine whose workers are actors of a Ray cluster."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Any

from esp_medsam.errors import ClusterError
from esp_medsam.integrations.ray_batch.actor import SegmentActor
from esp_medsam.integrations.ray_batch.cluster import nodes_of
from esp_medsam.integrations.ray_batch.ray_worker import RayWorker, wanted_text
from esp_medsam.integrations.ray_batch.shared_storage import SharedStorage
from esp_medsam.workflows.request import Request


logger = logging.getLogger(__name__)

SECONDS_TO_TELL = 30.0
"""Time for which nothing is said about workers that have no place yet."""


class RayEngine:
    """Makes actors, one for each worker, and waits for what they do.

    Ray is not to restart or repeat anything: who counts attempts must see each end.

    Args:
        ray: The package, connected.
        storage: What each node must see.
        shares_memory: Whether all actors are on one machine.
    """

    shares_devices, keeps_waiting = False, True

    def __init__(self, ray: Any, storage: SharedStorage, *, shares_memory: bool) -> None:
        self.shares_memory = shares_memory
        self._ray, self._storage = ray, storage
        self._idle_since: float | None = None
        self._has_told = False

    def worker(self, request: Request, threads: int, *, is_spare: bool, tells: bool) -> RayWorker:
        """Return an actor that is not started yet."""
        is_on_cpu = request.settings["device"] == "cpu"
        resources = {"num_cpus": threads, "num_gpus": 0 if is_on_cpu else 1}
        level = logging.getLogger().level

        def made() -> Any:
            actor = self._ray.remote(SegmentActor).options(
                **resources,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=1,
                scheduling_strategy="SPREAD",
            )
            return actor.remote(self._storage, level)

        arguments = (request, threads, tells)
        return RayWorker(self._ray, made, arguments, resources, is_spare=is_spare)

    def wait(self, workers: Collection[Any], most_seconds: float) -> None:
        """Wait until an actor has said something, or has ended, or a time is over."""
        if not all(worker.is_alive() for worker in workers):
            return
        if any(worker.is_ready for worker in workers):  # a full cluster does not stop the run
            self._idle_since = None
            for worker in workers:
                if not worker.is_ready:
                    worker.extend()
        else:
            self._tell_wait(workers)
            most_seconds = min(most_seconds, SECONDS_TO_TELL)
        asked = [worker.asked for worker in workers if worker.asked is not None]
        if asked:
            self._ray.wait(asked, num_returns=1, timeout=most_seconds)

    def _tell_wait(self, workers: Collection[RayWorker]) -> None:
        """Say, once, what is awaited, if nothing else happens.

        Raises:
            ClusterError: If the cluster has no node any more on which it could happen.
        """
        now = time.monotonic()
        self._idle_since = self._idle_since or now
        unplaced = [worker for worker in workers if not worker.is_placed]
        if not unplaced or now - self._idle_since < SECONDS_TO_TELL:
            return
        if not nodes_of(self._ray):
            msg = "The cluster must have a node that lives until the run ends; it has none any "
            msg += "more. Start it again; then the same command goes on."
            raise ClusterError(msg)
        if self._has_told:
            return
        self._has_told = True
        wanted = wanted_text(unplaced[0].resources)
        left = max(worker.seconds_left for worker in unplaced)
        logger.warning(
            "Waiting for a worker to start in the cluster, with %s, for up to %.0f s.", wanted, left
        )
