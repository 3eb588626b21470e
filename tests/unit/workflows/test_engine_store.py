"""Engines in the user's cache."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from esp_medsam.workflows.engine_store import UNUSED_DAYS, EngineStore


class Made:
    """Counts how often something is made."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> bytes:
        self.count += 1
        return b"an engine"


def test_an_engine_is_made_once(tmp_path: Path) -> None:
    make = Made()

    for _ in range(3):
        assert EngineStore("liver", tmp_path).bytes_of("onnx", make) == b"an engine"

    assert make.count == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_another_identity_or_kind_is_another_engine(tmp_path: Path) -> None:
    make = Made()
    EngineStore("liver", tmp_path).bytes_of("onnx", make)

    EngineStore("kidney", tmp_path).bytes_of("onnx", make)
    EngineStore("liver", tmp_path).bytes_of("plan", make)

    assert make.count == 3


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 100])
def test_a_damaged_engine_is_made_anew(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    make, store = Made(), EngineStore("liver", tmp_path)
    store.bytes_of("onnx", make)
    store.path_of("onnx").write_bytes(damage)

    with caplog.at_level(logging.WARNING):
        assert store.bytes_of("onnx", make) == b"an engine"
        assert store.bytes_of("onnx", make) == b"an engine"

    assert make.count == 2
    assert "is damaged and is made anew" in caplog.text


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    make, store = Made(), EngineStore("liver", tmp_path / "file" / "engines")

    for _ in range(2):
        assert store.bytes_of("onnx", make) == b"an engine"

    assert make.count == 2


def test_what_was_not_used_for_long_goes(tmp_path: Path) -> None:
    old, used = EngineStore("old", tmp_path), EngineStore("used", tmp_path)
    for store in (old, used):
        store.bytes_of("onnx", Made())
        past = time.time() - (UNUSED_DAYS + 1) * 24 * 60 * 60
        os.utime(store.path_of("onnx"), (past, past))
    used.bytes_of("onnx", Made())

    EngineStore("new", tmp_path).bytes_of("onnx", Made())

    assert not old.path_of("onnx").exists()
    assert used.path_of("onnx").exists()
