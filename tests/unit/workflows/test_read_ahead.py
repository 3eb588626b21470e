from __future__ import annotations

from threading import Event, Thread
from typing import Any

import pytest

from esp_medsam.errors import CorruptFileError
from esp_medsam.io.item import Item
from esp_medsam.workflows.read_ahead import ReadAhead


A, B, C = (Item(path=name, name=name) for name in "abc")


class Reader:
    """Reads items, and keeps their names; those of which ``held`` is not set wait for it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.held = Event()
        self.held.set()
        self.begun = Event()

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        name = data["image"].name
        self.names.append(name)
        self.begun.set()
        assert self.held.wait(60)
        if name == "c":
            msg = "c must be whole."
            raise CorruptFileError(msg)
        return {"image": f"image of {name}"}


def test_an_image_that_was_read_ahead_is_not_read_again() -> None:
    read = Reader()
    ahead = ReadAhead(read)
    assert ahead({"image": A}) == {"image": "image of a"}
    ahead.expect(B)

    assert ahead({"image": B}) == {"image": "image of b"}
    assert read.names == ["a", "b"]


def test_an_image_is_read_in_a_thread_of_its_own_until_its_turn() -> None:
    read = Reader()
    read.held.clear()
    ahead = ReadAhead(read)
    ahead.expect(B)
    assert read.begun.wait(60)  # and this thread goes on
    found: list[dict[str, Any]] = []
    waiting = Thread(target=lambda: found.append(ahead({"image": B})))
    waiting.start()
    assert not found
    read.held.set()
    waiting.join(60)

    assert found == [{"image": "image of b"}]
    assert read.names == ["b"]


def test_another_image_than_expected_is_read_and_the_expected_one_is_kept() -> None:
    read = Reader()
    ahead = ReadAhead(read)
    ahead.expect(B)

    assert ahead({"image": A}) == {"image": "image of a"}
    assert ahead({"image": B}) == {"image": "image of b"}
    assert sorted(read.names) == ["a", "b"]


def test_one_that_is_expected_later_takes_the_place_of_another() -> None:
    read = Reader()
    ahead = ReadAhead(read)
    ahead.expect(A)
    ahead.expect(B)

    assert ahead({"image": B}) == {"image": "image of b"}
    assert ahead({"image": A}) == {"image": "image of a"}


def test_an_image_that_cannot_be_read_is_refused_in_its_turn() -> None:
    read = Reader()
    ahead = ReadAhead(read)
    ahead.expect(C)
    assert ahead({"image": A}) == {"image": "image of a"}

    with pytest.raises(CorruptFileError, match="c must be whole"):
        ahead({"image": C})
