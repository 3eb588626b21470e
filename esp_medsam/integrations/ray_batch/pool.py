"""The workers of a run on a Ray cluster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain

import torch

from esp_medsam.integrations.ray_batch.cluster import choose_actors, connected, nodes_of
from esp_medsam.integrations.ray_batch.engine import RayEngine
from esp_medsam.integrations.ray_batch.seen_results import seen_results
from esp_medsam.integrations.ray_batch.shared_storage import SharedStorage, token_in
from esp_medsam.io.item import Item
from esp_medsam.workflows.attempts import with_settings
from esp_medsam.workflows.item_loop import each_alone
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.results import ItemResult
from esp_medsam.workflows.segment import SegmentRun
from esp_medsam.workflows.workers import Workers


@dataclass(kw_only=True)
class RayPool:
    """Actors on a cluster, which is connected when there is something to do.

    Args:
        run: The run, built without a network.
        request: Its request.
        device: ``cpu`` or ``cuda``; None means CUDA if a node has a GPU.
        address: Address of the cluster; None starts one on this machine.
        count: Number of workers that was asked for; None chooses it.
        most_seconds: Time that an item may take; None for any.
        tell: Called with a line of text that says what the workers are.
        is_verbose: Whether what workers log is printed here.
    """

    run: SegmentRun
    request: Request
    device: str | None = None
    address: str | None = None
    count: int | None = None
    most_seconds: float | None = None
    tell: Callable[[str], None] = logging.getLogger(__name__).info
    is_verbose: bool = False
    on_slices: Callable[[int, int], None] | None = field(default=None, init=False)

    def tell_slices(self, on_slices: Callable[[int, int], None]) -> None:
        """Report the slices done to a function while an item is segmented, if one is at a time.

        Args:
            on_slices: Called with the number of slices done and the total number.
        """
        self.on_slices = on_slices

    def each(
        self,
        steps: Iterable[Item | Refusal],
        attempt: Callable[[Item | Refusal], ItemResult | None],
        failed: Callable[[Item | Refusal, Exception], ItemResult],
    ) -> Iterator[ItemResult]:
        """Yield the outcome of each item; see :meth:`~esp_medsam.workflows.engine.Pool.each`."""
        left = iter(steps)
        for step in left:
            (outcome,) = each_alone([step], attempt, failed)
            if outcome is not None:
                yield outcome
                continue
            first = step

            def attempted(one: Item | Refusal, first: Item | Refusal = first) -> ItemResult | None:
                return None if one is first else attempt(one)  # it has begun already

            with ExitStack() as held:
                workers = self._workers(held)
                yield from seen_results(workers.each(chain([step], left), attempted, failed))

    def _workers(self, held: ExitStack) -> Workers:
        """Return the workers, on a cluster that is connected as long as a stack is held."""
        outputs = self.run.outputs
        token = held.enter_context(token_in(outputs.output_dir))
        storage = SharedStorage.of(self.request, outputs.weights, token)
        cpus = max(torch.get_num_threads(), self.count or 1)
        ray = held.enter_context(connected(self.address, cpus=cpus, is_verbose=self.is_verbose))
        nodes = nodes_of(ray)
        items = len(self.run) if self.run.is_whole else None
        chosen = choose_actors(nodes, self.device, items, self.count)
        where = f"{len(nodes)} Ray node{'s' * (len(nodes) > 1)}"
        self.tell(f"{chosen.text}, in {where}")
        workers = Workers(
            [with_settings(self.request, device=device) for device in chosen.devices],
            clean=self.run.clean,
            threads=chosen.threads,
            most_seconds=self.most_seconds,
            engine=RayEngine(ray, storage, shares_memory=len(nodes) == 1),
        )
        if self.on_slices is not None:
            workers.tell_slices(self.on_slices)
        return workers
