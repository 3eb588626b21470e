"""What the C library is asked to keep."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest

from esp_medsam.allocator import keep_memory, reuse_memory


@pytest.mark.parametrize(
    ("ask", "expected"),
    [(keep_memory, {-4: 0, -1: 2**31 - 1}), (reuse_memory, {-3: 2**25, -1: 2**29})],
)
@pytest.mark.parametrize("answer", [1, 0])
def test_the_options_are_passed_on_and_the_answer_comes_back(
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[], bool],
    expected: dict[int, int],
    answer: int,
) -> None:
    asked: dict[int, int] = {}

    class Library:
        def mallopt(self, option: int, value: int) -> int:
            asked[option] = value
            return answer

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library())

    assert ask() is bool(answer)
    assert asked == expected


@pytest.mark.parametrize("ask", [keep_memory, reuse_memory])
def test_another_c_library_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[], bool]
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())

    assert ask() is False
