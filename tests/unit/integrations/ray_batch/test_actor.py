from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import Pipe
from types import SimpleNamespace
from typing import Any

import pytest

from esp_medsam.errors import ClusterError
from esp_medsam.integrations.ray_batch import actor
from esp_medsam.integrations.ray_batch.actor import Death, Heard, SegmentActor
from esp_medsam.io.item import Item
from esp_medsam.workflows.worker import Ready, Unfit


class Ended(BaseException):
    """Stands for the end of the process."""


class FakeStorage:
    def __init__(self, looks: int = 0, error: ClusterError | None = None) -> None:
        self.looks, self.error = looks, error

    def enter(self, node: str) -> None:
        if self.error is not None:
            raise self.error

    @property
    def is_of_a_run(self) -> bool:
        self.looks -= 1
        return self.looks >= 0


class FakeProcess:
    """A worker process that is ready at once, and dies on its first item."""

    death, has_crashed, is_ready = "SIGSEGV", True, False

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.connection, self.theirs = Pipe()
        self.sentinel, self._lives = Pipe()
        self.items: list[str] = []
        self.has_ended = False

    def start(self) -> None:
        self.theirs.send(Ready("host:1"))

    def begin(self, job: Any, most_seconds: float) -> None:
        assert self.is_ready
        self.items.append(job.item.path)
        self.theirs.close()

    def is_alive(self) -> bool:
        return not self.items

    def messages(self) -> Iterator[Any]:
        while not self.items and self.connection.poll():
            yield self.connection.recv()

    def end(self) -> None:
        self.has_ended = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> SegmentActor:
    monkeypatch.setattr(actor, "WorkerProcess", FakeProcess)
    return SegmentActor(FakeStorage(), level=30)  # type: ignore[arg-type]


def test_says_what_its_process_sends_and_how_it_ends(made: SegmentActor) -> None:
    assert made.start(None, 1, False) == Heard((Ready("host:1"),))  # type: ignore[arg-type]
    assert made.segment(Item(path="a", name="a")) == Heard((), Death("SIGSEGV", is_crash=True))


def test_ends_its_process_when_it_is_told_to(made: SegmentActor) -> None:
    made.stop()  # there is none yet
    made.start(None, 1, False)  # type: ignore[arg-type]

    made.stop()

    assert made._worker.has_ended  # type: ignore[union-attr]


def test_a_process_that_the_system_cannot_start_is_a_death(
    made: SegmentActor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(FakeProcess, "start", fail)

    heard = made.start(None, 1, False)  # type: ignore[arg-type]

    assert heard.death is not None
    assert heard.death.text.endswith("could not start it: Cannot allocate memory")


def test_says_why_its_node_cannot_be_used() -> None:
    error = ClusterError("sees nothing")

    _, unfit = SegmentActor(FakeStorage(error=error), level=30).enter()  # type: ignore[arg-type]

    assert unfit == Unfit(error)


def test_f13_ends_itself_when_its_run_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Ray knows of it."""

    def end(status: int) -> None:
        raise Ended

    storage, waits = FakeStorage(looks=3), []
    monkeypatch.setattr(actor, "os", SimpleNamespace(_exit=end))
    monkeypatch.setattr(actor, "time", SimpleNamespace(sleep=waits.append))

    with pytest.raises(Ended):
        SegmentActor(storage, level=30)._end_with_run()  # type: ignore[arg-type]

    assert waits == [1.0] * 3
