from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from esp_medsam.errors import DiskFullError
from esp_medsam.io.item import Item
from esp_medsam.workflows.item_loop import each_alone, until_full
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.results import ItemResult, failure
from esp_medsam.workflows.retries import Retries


def steps(*names: str) -> Iterator[Item | Refusal]:
    for name in names:
        yield Item(path=name, name=name)


def failing(times: dict[str, int]) -> tuple[Callable[[Any], ItemResult], Counter[str]]:
    """Return an attempt that fails so many times for each name, and a count of its calls."""
    calls = Counter[str]()

    def attempt(step: Any) -> ItemResult:
        if isinstance(step, Refusal):
            return step.result
        calls[step.label] += 1
        if calls[step.label] <= times.get(step.label, 0):
            msg = f"try {calls[step.label]}"
            raise OSError(msg)
        return ItemResult(path=step.label, status="done")

    return attempt, calls


def failed(step: Any, error: Exception) -> ItemResult:
    return failure(step.label, error)


def never(_: ItemResult) -> bool:
    return False


class TestRetries:
    def test_an_item_that_fails_is_tried_again_when_the_others_are_done(self) -> None:
        attempt, calls = failing({"a": 1})
        told: list[ItemResult] = []

        found = list(Retries(each_alone, 1, never, told.append)(steps(*"abc"), attempt, failed))

        assert [(one.path, one.status) for one in found] == [
            ("b", "done"),
            ("c", "done"),
            ("a", "done"),
        ]
        assert [one.path for one in told] == ["a"]
        assert calls == {"a": 2, "b": 1, "c": 1}

    def test_the_last_attempt_is_the_outcome(self) -> None:
        attempt, calls = failing({"a": 9})

        (found,) = Retries(each_alone, 3, never, lambda _: None)(steps("a"), attempt, failed)

        assert found.has_failed
        assert calls["a"] == 4

    def test_what_is_refused_is_told_once(self) -> None:
        attempt, _ = failing({})
        refusal = Refusal("a", OSError())

        (found,) = Retries(each_alone, 3, never, lambda _: None)([refusal], attempt, failed)

        assert found.has_failed

    def test_failures_that_wait_are_told_before_a_full_disk_ends_the_run(self) -> None:
        def attempt(step: Any) -> ItemResult:
            raise DiskFullError("full") if step.label == "b" else OSError("bad")

        retries = Retries(each_alone, 1, never, lambda _: None)
        found = until_full(retries(steps(*"abc"), attempt, failed))

        assert [one.path for one in found] == ["a", "b"]

    def test_a_final_failure_is_not_tried_again(self) -> None:
        attempt, calls = failing({"a": 1, "b": 1})

        def is_final(result: ItemResult) -> bool:
            return result.path == "a"

        found = list(
            Retries(each_alone, 3, is_final, lambda _: None)(steps(*"ab"), attempt, failed)
        )

        assert [one.status for one in found] == ["failed", "done"]
        assert calls == {"a": 1, "b": 2}
