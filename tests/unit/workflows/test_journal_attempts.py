"""What a journal has of attempts: how many, by which workers, and what was known before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from tests.support.journals import done, failed, opened, rows, write_record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def record(tmp_path: Path) -> str:
    """A record of a result."""
    return write_record(tmp_path)


class TestAttempts:
    def test_count_while_what_is_tried_stays_the_same(self, path: Path) -> None:
        with opened(path) as kept:
            for _ in range(2):
                kept.begin("in/a.png", "one")
                kept.end(failed())

            assert kept.failure_of("in/a.png", "one") == ("E_CORRUPT", "No.", 2)
            assert kept.failure_of("in/a.png", "another") is None
            kept.begin("in/a.png", "another")
            kept.end(failed())
            assert kept.failure_of("in/a.png", "another") == ("E_CORRUPT", "No.", 1)

    def test_of_what_is_done_are_no_failures(self, path: Path, record: str) -> None:
        with opened(path) as kept:
            kept.begin("in/a.png", "one")
            assert kept.failure_of("in/a.png", "one") is None
            kept.end(done(record))
            assert kept.failure_of("in/a.png", "one") is None

    def test_that_were_interrupted_are_no_failures(self, path: Path) -> None:
        for _ in range(3):
            with opened(path) as kept:
                kept.begin("in/a.png", "one")  # and the run ends
        with opened(path) as kept:
            assert kept.failure_of("in/a.png", "one") is None
            kept.begin("in/a.png", "one")
            kept.end(failed())
            assert kept.failure_of("in/a.png", "one") == ("E_CORRUPT", "No.", 1)

    def test_that_killed_their_run_are_failures(self, path: Path) -> None:
        for number in (1, 2, 3):
            killed = opened(path)
            killed.begin("in/a.png", "one")
            killed._database.close()  # as if it was killed

            with opened(path) as kept:
                found = kept.failure_of("in/a.png", "one")
            assert found is not None
            assert (found.code, found.failures) == ("E_WORKER_DIED", number)

    def test_are_forgotten_when_the_item_is_done(self, path: Path, record: str) -> None:
        with opened(path) as kept:
            for outcome in (failed(), done(record), failed()):
                kept.begin("in/a.png", "one")
                kept.end(outcome)

            assert kept.failure_of("in/a.png", "one") == ("E_CORRUPT", "No.", 1)

    def test_an_outcome_without_an_attempt_is_no_failure_of_what_was_tried(
        self, path: Path
    ) -> None:
        with opened(path) as kept:
            for _ in range(2):
                kept.begin("in/a.png", "one")
                kept.end(failed())
            kept.end(failed())  # refused before it was tried

            assert kept.failure_of("in/a.png", "one") is None


class TestKnownBeforeARecord:
    KNOWN: ClassVar = {
        "source": {"bytes": 7, "modified_ns": 8},
        "weights_sha256": "ab",
        "settings": {"flips": True},
    }

    def test_input_and_recipe_stay_with_what_failed(self, path: Path) -> None:
        with opened(path) as kept:
            kept.begin("in/a.png", "one", self.KNOWN)
            kept.end(failed())

        (row,) = rows(path)
        assert (row["bytes"], row["modified_ns"], row["weights_sha256"]) == (7, 8, "ab")
        assert json.loads(row["settings"]) == {"flips": True}
        assert row["sha256"] is row["record"] is row["outputs"] is None

    def test_the_record_says_more_of_what_is_done(self, path: Path, record: str) -> None:
        with opened(path) as kept:
            kept.begin("in/a.png", "one", self.KNOWN)
            kept.end(done(record))

        (row,) = rows(path)
        assert row["bytes"] != 7
        assert row["sha256"]

    def test_what_was_done_before_is_not_said_of_a_later_refusal(
        self, path: Path, record: str
    ) -> None:
        with opened(path) as kept:
            kept.begin("in/a.png", "one", self.KNOWN)
            kept.end(done(record))
            kept.end(failed())

        (row,) = rows(path)
        assert row["bytes"] is row["sha256"] is row["record"] is row["tried"] is None


def test_the_worker_and_its_attempts_are_noted(path: Path) -> None:
    with opened(path) as kept:
        kept.begin("in/a.png")
        kept.end(replace(failed(), worker="node1:4711", attempts=2))
        assert [(row["worker"], row["attempts"]) for row in rows(path)] == [("node1:4711", 2)]
        kept.begin("in/a.png")
        kept.end(failed())

    assert [(row["worker"], row["attempts"]) for row in rows(path)] == [(None, 3)]


def test_the_worker_stays_with_what_is_kept(path: Path, record: str) -> None:
    with opened(path) as kept:
        kept.begin("in/a.png")
        kept.end(replace(done(record), worker="node1:4711"))
    with opened(path) as kept:
        kept.end(done(record, "kept"))

    assert [row["worker"] for row in rows(path)] == ["node1:4711"]


def test_the_worker_of_a_failed_attempt_is_not_that_of_a_result_made_elsewhere(
    path: Path, record: str
) -> None:
    with opened(path) as kept:
        kept.begin("in/a.png")
        kept.end(replace(failed(), worker="node1:4711", seconds=9.0))
        kept.end(done(record, "kept"))

    (row,) = rows(path)
    assert row["worker"] is row["ended"] is row["seconds"] is None
