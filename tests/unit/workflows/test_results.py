"""What is told of an item that failed, and of all items together."""

from __future__ import annotations

import logging
import re

import pytest

from esp_medsam.workflows.results import ItemResult, Tally, failure


class TestResults:
    @pytest.mark.parametrize("error", [MemoryError(), RuntimeError("out of memory")])
    def test_memory_that_ran_out_is_told_as_such(self, error: Exception) -> None:
        wrapper = RuntimeError("applying transform")
        wrapper.__cause__ = error

        result = failure("a.png", wrapper)

        assert result.code == "E_TOO_LARGE"
        assert "slice_batch" in result.message

    def test_unexpected_error_tells_type_and_place_alone(self) -> None:
        result = failure("a.png", RuntimeError("Doe^John"))

        assert "Doe" not in result.message
        assert result.line.startswith("failed a.png: E_INTERNAL: unexpected RuntimeError")

    def test_log_tells_types_and_places_and_no_text_of_any_error(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def read() -> None:
            try:
                raise ValueError("Canary^Jane")  # noqa: EM101
            except ValueError as error:
                raise KeyError("19700101") from error  # noqa: EM101

        with caplog.at_level(logging.DEBUG):
            try:
                read()
            except KeyError as error:
                error.__context__ = LookupError("Doe")
                failure("a.png", error)

        (told,) = caplog.messages
        assert re.fullmatch(
            r"a\.png: KeyError < \S*test_results\.py:\d+ < \S*test_results\.py:\d+; "
            r"behind it ValueError < \S*test_results\.py:\d+",
            told,
        )
        assert caplog.records[0].exc_info is None

    def test_loop_of_causes_ends(self) -> None:
        first, second = ValueError(), ValueError()
        first.__cause__, second.__cause__ = second, first

        assert failure("a.png", first).code == "E_INTERNAL"


class TestTally:
    def test_counts_all_and_holds_failures_alone(self) -> None:
        done = ItemResult(path="a", status="done", empty=True)
        kept = ItemResult(path="b", status="kept")
        failed = ItemResult(path="c", status="failed", code="E_CORRUPT")

        tally = Tally([done, kept])
        tally.add(failed)

        assert tally.counts == {"done": 1, "kept": 1, "failed": 1}
        assert (len(tally), tally.empty, tally.failed) == (3, 1, [failed])

    def test_of_nothing_is_empty(self) -> None:
        assert len(Tally[ItemResult]()) == 0
