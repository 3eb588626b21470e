"""The loop that commands share: one outcome per item, whatever happens to the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from esp_medsam.errors import DiskFullError
from esp_medsam.io.atomic import RunFolder, alone_in
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
    """Yield what each item comes to, in order: one bad item never ends a run.

    Args:
        items: What is to be done.
        attempt: Does one item and returns what it comes to, or raises.
        failed: Returns what an item comes to that raised.
    """
    for item in items:
        outcome: R | F
        try:
            outcome = attempt(item)
        except Exception as error:
            outcome = failed(item, error)
        yield outcome


def until_full(outcomes: Iterable[Told]) -> Iterator[Told]:
    """Yield outcomes up to the first that met a full disk, which the next would meet too."""
    for outcome in outcomes:
        yield outcome
        if outcome.code == DiskFullError.code:
            return


def results_of(
    steps: Iterable[T | Refusal],
    attempt: Callable[[T], ItemResult],
    *,
    label_of: Callable[[T], str],
    output: Path,
    folder_of: Callable[[T], Path],
) -> Iterator[ItemResult]:
    """Yield one result per item, as it comes; a full disk ends the run after its own result.

    Args:
        steps: What is to be done, in order, and what cannot be.
        attempt: Does one item and returns its result, or raises.
        label_of: What messages call an item.
        output: Folder that results go to, which no other run may write to from the first item on.
        folder_of: Folder of an item's results, from which remains of killed runs are removed.

    Raises:
        OutputError: If another run is writing to the output folder.
    """
    start = 0.0

    def begun(held: ExitStack) -> Iterator[T | Refusal]:
        nonlocal start
        folder: RunFolder | None = None
        for item in steps:
            if not isinstance(item, Refusal):
                folder = folder or held.enter_context(alone_in(output))
                folder.clear(folder_of(item))
            start = time.perf_counter()
            yield item

    def attempted(step: T | Refusal) -> ItemResult:
        return step.result if isinstance(step, Refusal) else attempt(step)

    def failed(step: T | Refusal, error: Exception) -> ItemResult:
        label = step.label if isinstance(step, Refusal) else label_of(step)
        return failure(label, error, time.perf_counter() - start)

    with ExitStack() as held:
        yield from until_full(each_alone(begun(held), attempted, failed))
