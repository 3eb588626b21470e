from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from esp_medsam.regular_file import open_regular


class TestOpenRegular:
    def test_reads_what_the_file_holds(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"one\r\ntwo")

        with open_regular(tmp_path / "file") as file:
            assert file.read() == b"one\r\ntwo"

    def test_follows_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"content")
        (tmp_path / "link").symlink_to("file")

        with open_regular(tmp_path / "link") as file:
            assert file.read() == b"content"

    def test_refuses_a_pipe_at_once(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")

        with pytest.raises(OSError, match="it is a pipe, not a file"):
            open_regular(tmp_path / "pipe")

    def test_refuses_a_device(self) -> None:
        with pytest.raises(OSError, match="it is a device, not a file"):
            open_regular("/dev/zero")

    def test_refuses_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="it is a folder, not a file"):
            open_regular(tmp_path)

    def test_refuses_a_socket(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)  # the path of a socket may have a hundred characters
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("socket")

            with pytest.raises(OSError, match="socket"):
                open_regular("socket")

    def test_says_that_there_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            open_regular(tmp_path / "absent")

    def test_leaves_no_descriptor_open(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        before = len(list(Path("/proc/self/fd").iterdir()))

        for _ in range(3):
            with pytest.raises(OSError, match="pipe"):
                open_regular(tmp_path / "pipe")

        assert len(list(Path("/proc/self/fd").iterdir())) == before
