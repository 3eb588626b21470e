from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from esp_medsam.dicom import find_volumes, is_dicom, read_segmentation
from esp_medsam.dicom.dicom_file import opened
from esp_medsam.dicom.pixel_file import PixelFile
from esp_medsam.errors import CorruptFileError, InputNotFoundError, ReadError, TooLargeError


class TestOpened:
    def test_tells_nothing_of_what_others_say(self, dicom: Any, tmp_path: Path) -> None:
        path = dicom.save(dicom.dataset(), tmp_path / "a.dcm")

        with (
            pytest.raises(CorruptFileError, match=r"header is damaged \(KeyError\)\.$") as caught,
            opened(path),
        ):
            raise KeyError("Doe^Jane")  # noqa: EM101  # what a library might say

        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__

    def test_memory_that_runs_out_is_too_much(self, dicom: Any, tmp_path: Path) -> None:
        path = dicom.save(dicom.dataset(), tmp_path / "a.dcm")

        with pytest.raises(TooLargeError, match=r"a\.dcm must fit in memory"), opened(path):
            raise MemoryError

    def test_a_file_that_is_gone_is_said_to_be(self, tmp_path: Path) -> None:
        with (
            pytest.raises(InputNotFoundError, match="/a must be an existing file"),
            opened(tmp_path / "a"),
        ):
            pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
class TestPipes:
    """None may block: a pipe without a writer waits for ever."""

    @pytest.fixture
    def pipe(self, tmp_path: Path) -> Path:
        os.mkfifo(tmp_path / "1.dcm")
        return tmp_path / "1.dcm"

    def test_are_no_dicom(self, pipe: Path, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(tmp_path / "s"))

            assert not is_dicom(pipe)
            assert not is_dicom(tmp_path / "s")
            assert not is_dicom("/dev/zero")

    def test_are_left_alone_in_a_folder(self, dicom: Any, pipe: Path) -> None:
        dicom.save(dicom.dataset(), pipe.with_name("0.dcm"))

        found = find_volumes(pipe.parent)

        assert [volume.name for volume in found.volumes] == ["1.2.3"]
        assert found.others == (str(pipe),)

    def test_are_not_read(self, pipe: Path) -> None:
        for read in (PixelFile, read_segmentation):
            with pytest.raises(ReadError, match=r"1\.dcm must be readable; got: it is a pipe"):
                read(str(pipe))


class TestUids:
    def test_that_are_written_badly_bring_up_no_warning(self, dicom: Any, tmp_path: Path) -> None:
        path = dicom.save(dicom.dataset(), tmp_path / "a.dcm")
        stated, wrong = b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.02"
        content = path.read_bytes()
        path.write_bytes(content.replace(stated, wrong))
        assert path.read_bytes() != content

        find_volumes(path)  # a warning would end the test


class TestIsDicom:
    def test_the_magic_word_is_enough(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(bytes(128) + b"DICM")

        assert is_dicom(tmp_path / "a")

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"DICM",
            bytes(400),
            b"hello world, this is a text file",
            b"\x08\x00",
            b"\x5c\x01" * 99,
        ],
    )
    def test_other_files_are_none(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a").write_bytes(content)

        assert not is_dicom(tmp_path / "a")

    def test_a_folder_is_none(self, tmp_path: Path) -> None:
        assert not is_dicom(tmp_path)
        assert not is_dicom(tmp_path / "gone")
