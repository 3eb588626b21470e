"""Try failed items again, when all others are done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from esp_medsam.errors import DiskFullError, one_line
from esp_medsam.io.item import Item
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.results import ItemResult


logger = logging.getLogger(__name__)

Each = Callable[..., Iterator[ItemResult]]
"""Loop over items, with the arguments of :func:`~esp_medsam.workflows.item_loop.each_alone`."""


@dataclass(frozen=True)
class Retries:
    """Rounds over what failed.

    Args:
        each: The loop of one round.
        most: Number of rounds after the first.
        is_final: Whether a failure is the last word on its item, whatever rounds are left; a full
            disk is, of the whole run.
        on_failure: Called with each failure that is not.
    """

    each: Each
    most: int
    is_final: Callable[[ItemResult], bool]
    on_failure: Callable[[ItemResult], None]

    def __call__(
        self,
        steps: Iterable[Item | Refusal],
        attempt: Callable[[Item | Refusal], ItemResult | None],
        failed: Callable[[Item | Refusal, Exception], ItemResult],
    ) -> Iterator[ItemResult]:
        """Yield the last outcome of each item; arguments as for the loop of one round."""
        for number in range(self.most + 1):
            is_last = number == self.most
            trying: dict[str, Item] = {}  # only what is at work, and what failed, is held
            again: list[tuple[Item, ItemResult]] = []
            for outcome in self.each(_noted(steps, trying), attempt, failed):
                item = trying.pop(outcome.path, None)
                is_full = outcome.code == DiskFullError.code
                if is_full:  # the run ends: what waits for another round is told now
                    yield from (failure for _, failure in again)
                is_final = is_last or is_full or not outcome.has_failed or self.is_final(outcome)
                if item is None or is_final:
                    yield outcome
                else:
                    told = one_line(outcome.path)
                    logger.warning("%s failed (%s), and is tried again.", told, outcome.code)
                    self.on_failure(outcome)
                    again.append((item, outcome))
            steps = [item for item, _ in again]


def _noted(steps: Iterable[Item | Refusal], trying: dict[str, Item]) -> Iterator[Item | Refusal]:
    """Yield steps, and note the items by their labels."""
    for step in steps:
        if isinstance(step, Item):
            trying[step.label] = step
        yield step
