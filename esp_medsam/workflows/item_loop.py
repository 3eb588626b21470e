"""The loop that runs share: one result per item, whatever happens to the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from esp_medsam.errors import DiskFullError
from esp_medsam.io.atomic import alone_in
from esp_medsam.workflows.results import ItemResult, failure


T = TypeVar("T")


def results_of(
    items: Sequence[T],
    attempt: Callable[[T], ItemResult],
    *,
    refused: Iterable[tuple[str, BaseException]],
    label_of: Callable[[T], str],
    output: Path,
    folder_of: Callable[[T], Path],
) -> Iterator[ItemResult]:
    """Yield one result per item, as it comes; a full disk ends the run after its own result.

    Args:
        items: What is to be done, in order.
        attempt: Does one item and returns its result, or raises.
        refused: What messages call the items that cannot be tried, and why.
        label_of: What messages call an item.
        output: Folder that results go to, which no other run may write to meanwhile.
        folder_of: Folder of an item's results, from which remains of killed runs are removed.

    Raises:
        OutputError: If another run is writing to the output folder.
    """
    for label, error in refused:
        yield failure(label, error)
    if not items:
        return
    with alone_in(output) as folder:
        for item in items:
            folder.clear(folder_of(item))
            start = time.perf_counter()
            try:
                result = attempt(item)
            except Exception as error:  # one bad item never ends a run
                result = failure(label_of(item), error, time.perf_counter() - start)
            yield result
            if result.code == DiskFullError.code:
                return
