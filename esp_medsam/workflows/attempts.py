"""The attempts of an item: what each segments with, and what is told of the ones before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from esp_medsam.io.item import Item
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.results import ItemResult


@dataclass(frozen=True)
class Job:
    """An item, and how often it was tried.

    Attributes:
        item: The item.
        attempt: Which of the ways to segment it is next, from 0; see :func:`attempts_of`.
        tries: How often a worker has had it.
        died: How the worker of the attempt before ended; empty for the first.
        is_alone: Whether no other worker may work meanwhile, so that it has all the memory.
    """

    item: Item
    attempt: int = 0
    tries: int = 0
    died: str = ""
    is_alone: bool = False

    def told(self, result: ItemResult, worker: str) -> ItemResult:
        """Return a result of this job, with a warning if another attempt was needed.

        Args:
            result: The result.
            worker: Host and process of the worker that it comes from; empty if it never began.
        """
        result = replace(result, worker=worker or None, attempts=max(1, self.tries))
        if not self.died or result.has_failed:
            return result
        told = f"Segmented in attempt {self.tries}: the worker before ended by {self.died}."
        return replace(result, warnings=(*result.warnings, told))


def attempts_of(request: Request) -> list[Request]:
    """Return what the attempts of an item segment with, one after the other."""
    # Whatever ended the worker, a runtime that is not PyTorch may have been it.
    one_slice = with_settings(request, slice_batch=1, runtime="eager")
    if request.settings.get("device") == "cpu":
        return [request, one_slice]
    return [request, one_slice, with_settings(one_slice, device="cpu")]


def attempt_of(request: Request, number: int) -> Request:
    """Return what an attempt segments with; at a place that has fewer, the last that it has."""
    attempts = attempts_of(request)
    return attempts[min(number, len(attempts) - 1)]


def with_settings(request: Request, **settings: Any) -> Request:
    """Return a request with other settings."""
    held: Mapping[str, Any] = {**request.settings, **settings}
    return replace(request, settings=held)
