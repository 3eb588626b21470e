"""Results that other machines have written, as this one sees them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from esp_medsam.errors import ClusterError, EspMedSamError
from esp_medsam.io.record import is_there, read_record
from esp_medsam.workflows.results import ItemResult, failure


MOST_SECONDS_TO_SEE = 90.0
"""Time after which a file on shared storage must be seen: NFS keeps for 60 s what it knew."""

_SECONDS_BETWEEN_LOOKS = 0.2


def seen_results(results: Iterable[ItemResult]) -> Iterator[ItemResult]:
    """Yield results as their records are seen here; a worker's word alone is not trusted.

    One whose record is not seen in time has failed. Others are not held up by it.

    Args:
        results: Outcomes, as workers tell them.
    """
    awaited: list[tuple[ItemResult, float]] = []
    for result in results:
        if result.status != "done":
            yield result
            continue
        awaited.append((result, time.monotonic() + MOST_SECONDS_TO_SEE))
        yield from _settled(awaited)
    while awaited:
        yield from _settled(awaited)
        if awaited:
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def _settled(awaited: list[tuple[ItemResult, float]]) -> Iterator[ItemResult]:
    for waiting in list(awaited):
        result, latest = waiting
        if _is_written(Path(result.record or "")):
            awaited.remove(waiting)
            yield result
        elif time.monotonic() > latest:
            awaited.remove(waiting)
            msg = f"{result.record} must be seen by the machine that started the run; the worker "
            msg += f"that wrote it says so, but for {MOST_SECONDS_TO_SEE:g} s it was not. Check "
            error = ClusterError(msg + "that all nodes mount the same storage.")
            yield failure(result.path, error, result.seconds)


def _is_written(record: Path) -> bool:
    """Whether a record can be read here, and all its files are there."""
    with suppress(EspMedSamError, OSError):
        next(record.parent.iterdir(), None)  # lets NFS ask the server what is new in the folder
        stem = record.with_suffix("")
        held = read_record(stem)
        return held is not None and is_there(held, stem)
    return False
