"""The loop that runs share: one result per item, whatever happens to the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from esp_medsam.errors import DiskFullError
from esp_medsam.io.atomic import RunFolder, alone_in
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.results import ItemResult, failure


T = TypeVar("T")


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
    with ExitStack() as held:
        folder: RunFolder | None = None
        for item in steps:
            if isinstance(item, Refusal):
                yield item.result
                continue
            if folder is None:
                folder = held.enter_context(alone_in(output))
            folder.clear(folder_of(item))
            start = time.perf_counter()
            try:
                result = attempt(item)
            except Exception as error:  # one bad item never ends a run
                result = failure(label_of(item), error, time.perf_counter() - start)
            yield result
            if result.code == DiskFullError.code:
                return
