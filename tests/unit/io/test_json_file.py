from __future__ import annotations

import os
from pathlib import Path

import pytest

from esp_medsam.io import json_file
from esp_medsam.io.json_file import read_json


class TestReadJson:
    def test_gives_the_object_that_a_file_holds(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text('{"a": [1]}')

        assert read_json(tmp_path / "a") == {"a": [1]}

    @pytest.mark.parametrize("content", ["", "[]", "{", "[" * 10**5, '{"a": "123456"}'])
    def test_refuses_anything_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
    ) -> None:
        monkeypatch.setattr(json_file, "_MAX_BYTES", 14)
        (tmp_path / "a").write_text(content)

        with pytest.raises(ValueError):  # noqa: PT011  # who asked says what it should be
            read_json(tmp_path / "a")

    def test_does_not_wait_for_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a")

        with pytest.raises(OSError, match="it is a pipe, not a file"):
            read_json(tmp_path / "a")
