"""Loop shared by the commands: one outcome per item, whatever happens to the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from esp_medsam.errors import DiskFullError
from esp_medsam.io.run_lock import RunFolder, alone_in
from esp_medsam.run_share import RunShare
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.results import ItemResult, Outcome, failure


T = TypeVar("T")
R = TypeVar("R")
F = TypeVar("F")
Told = TypeVar("Told", bound=Outcome)


def each_alone(
    items: Iterable[T],
    attempt: Callable[[T], R],
    failed: Callable[[T, Exception], F],
) -> Iterator[R | F]:
    """Yield the outcome of each item, in order; a failed item never ends a run.

    Args:
        items: Items to process.
        attempt: Processes one item and returns its outcome, or raises.
        failed: Returns the outcome of an item whose attempt raised.
    """
    for item in items:
        outcome: R | F
        try:
            outcome = attempt(item)
        except Exception as error:
            outcome = failed(item, error)
        yield outcome


def until_full(outcomes: Iterable[Told]) -> Iterator[Told]:
    """Yield outcomes up to the first that hit a full disk, since the next would hit it too."""
    for outcome in outcomes:
        yield outcome
        if outcome.code == DiskFullError.code:
            return


def results_of(
    steps: Iterable[T | Refusal],
    attempt: Callable[[T], ItemResult | None],
    *,
    label_of: Callable[[T], str],
    output: Path,
    folder_of: Callable[[T], Path],
    share: RunShare | None = None,
    each: Callable[..., Iterator[Any]] = each_alone,
    beside: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[ItemResult]:
    """Yield one result per item as it completes; a full disk ends the run after its result.

    Args:
        steps: Items to process, in order, and refusals of items that cannot be processed.
        attempt: Processes one item and returns its result, or raises; None leaves it to ``each``.
        label_of: Returns the name of an item in messages.
        output: Folder of the results, which no other run may write to from the first item on.
        folder_of: Folder of an item's results, from which remains of killed runs are removed.
        share: Share of the input that the run takes.
        each: Loop over the items, with the arguments of :func:`each_alone`.
        beside: Opens what the run keeps beside its results, once no other run can.

    Raises:
        LockedError: If another run is writing to the output folder.
    """
    start = 0.0

    def begun(held: ExitStack) -> Iterator[T | Refusal]:
        folder: RunFolder | None = None
        for item in steps:
            if not isinstance(item, Refusal):
                if folder is None:
                    folder = held.enter_context(alone_in(output, share))
                    held.enter_context(beside())
                folder.clear(folder_of(item))
            yield item

    def attempted(step: T | Refusal) -> ItemResult | None:
        nonlocal start
        start = time.perf_counter()
        return step.result if isinstance(step, Refusal) else attempt(step)

    def failed(step: T | Refusal, error: Exception) -> ItemResult:
        label = step.label if isinstance(step, Refusal) else label_of(step)
        return failure(label, error, time.perf_counter() - start)

    with ExitStack() as held:
        yield from until_full(each(begun(held), attempted, failed))
