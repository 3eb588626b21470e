from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from esp_medsam.errors import DiskFullError, OutputError
from esp_medsam.io.output_path import check_output_dir, check_outputs, output_stem, record_path


class TestOutputStem:
    def test_lies_in_the_input_s_own_folder(self, tmp_path: Path) -> None:
        assert output_stem(tmp_path, "a/b", "n") == tmp_path / "a" / "b" / "n_seg"
        assert record_path(tmp_path / "n.1_seg") == tmp_path / "n.1_seg.json"

    @pytest.mark.parametrize(
        ("folder", "name"), [("..", "n"), ("/etc", "n"), ("", "../n"), ("", ".."), ("a", "")]
    )
    def test_never_lies_outside(self, tmp_path: Path, folder: str, name: str) -> None:
        with pytest.raises(OutputError, match="must be inside"):
            output_stem(tmp_path, folder, name)


class TestCheckOutputDir:
    @pytest.mark.parametrize("place", [".", "a", "a/b/c", "link", "link/a"])
    def test_takes_a_folder_that_is_there_or_can_be_made_and_leaves_nothing(
        self, tmp_path: Path, place: str
    ) -> None:
        (tmp_path / "link").symlink_to(tmp_path)

        check_output_dir(tmp_path / place)

        assert [path.name for path in tmp_path.iterdir()] == ["link"]

    @pytest.mark.parametrize(
        ("place", "told"),
        [
            ("file", "file must be a folder to write to"),
            ("file/a/b", "file/a/b must be a folder to write to; .*/file is not"),
            ("nowhere", "nowhere must be a folder to write to"),
            ("circle", "circle must be writable; got: Too many levels of symbolic links"),
            ("n" * 300, "n must be writable; got: File name too long"),
            ("a/" + "n" * 300, "must have at most 255 bytes; .*n has 300. Choose a shorter one"),
            ("a/" + "ü" * 128, "must have at most 255 bytes; .*ü has 256. Choose a shorter one"),
            ("d/" * 3000, "d must be writable; got: File name too long"),
        ],
    )
    def test_refuses_what_can_be_no_folder_in_one_line(
        self, tmp_path: Path, place: str, told: str
    ) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "nowhere").symlink_to("nothing")
        (tmp_path / "circle").symlink_to("circle")

        with pytest.raises(OutputError, match=told):
            check_output_dir(tmp_path / place)

    @pytest.mark.parametrize("place", ["out", "out/a"])
    def test_f5_refuses_a_folder_that_takes_no_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
    ) -> None:
        (tmp_path / "out").mkdir()
        opened = os.open

        def read_only(path: object, flags: int, *args: int, **options: int) -> int:
            if flags & os.O_CREAT:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return opened(path, flags, *args, **options)  # type: ignore[call-overload]

        monkeypatch.setattr(os, "open", read_only)

        with pytest.raises(OutputError, match="must be writable; got: Read-only file system"):
            check_output_dir(tmp_path / place)

    def test_a_disk_without_room_for_a_file_is_full(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(folder: object) -> NoReturn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("esp_medsam.io.folder.Folder.check_writable", full)

        with pytest.raises(DiskFullError, match="must fit on the disk"):
            check_output_dir(tmp_path)

    def test_refuses_any_below_a_working_folder_that_is_gone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()

        with pytest.raises(OutputError, match="out must be writable; got: No such file"):
            check_output_dir("out")


class TestCheckOutputs:
    def test_takes_what_can_be_written_and_makes_nothing(self, tmp_path: Path) -> None:
        check_outputs([tmp_path / "out/a" / ("n" * 255)], tmp_path / "out")

        assert not list(tmp_path.iterdir())

    def test_tells_a_name_that_is_too_long_as_such(self, tmp_path: Path) -> None:
        paths = [tmp_path / "short", tmp_path / ("é" * 126 + ".json")]

        with pytest.raises(OutputError, match=r"at most 255 bytes; .*json has 257\. Shorten the"):
            check_outputs(paths, tmp_path)

    def test_tells_a_path_that_is_too_long(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="must be writable; got: File name too long"):
            check_outputs([tmp_path / ("d/" * 2500) / "file"], tmp_path)

    def test_refuses_a_folder_that_is_a_link_or_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path)
        (tmp_path / "file").touch()

        with pytest.raises(OutputError, match="must be a real folder; it is a link"):
            check_outputs([tmp_path / "link/a"], tmp_path)
        with pytest.raises(OutputError, match="must be writable; got: Not a directory"):
            check_outputs([tmp_path / "file/a"], tmp_path)
