from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import SimpleITK
from pydicom import dcmread

from esp_medsam.dicom import find_volumes
from esp_medsam.errors import CorruptFileError, InputChangedError, InputNotFoundError
from esp_medsam.identity import Identity
from esp_medsam.image import Image
from esp_medsam.io import files_of, read
from esp_medsam.io.item import Item
from esp_medsam.modality import ModalityTable
from tests.support.shipped_dicom import copy_stack


Stack = Callable[..., Path]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    PIL.Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture
def write_stack(tmp_path: Path) -> Stack:
    """Return a function that writes two slices of a CT into a folder."""

    def write(uid: str = "1.2.3", folder: str = "stack") -> Path:
        return copy_stack(tmp_path / folder, [0, 2], uid, SeriesInstanceUID=uid)

    return write


def identity_of(image: Image) -> Identity:
    assert image.identity is not None
    return image.identity


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class TestIdentity:
    def test_of_a_file_is_that_of_its_content(self, picture: Path, table: ModalityTable) -> None:
        identity = identity_of(read(picture))

        assert identity.sha256 == hash_of(picture)
        assert (identity.size, identity.modified_ns) == (
            picture.stat().st_size,
            picture.stat().st_mtime_ns,
        )

    @pytest.mark.parametrize(
        ("name", "data"), [("a.nhdr", "a.raw"), ("a.mhd", "a.raw"), ("a.nrrd", None)]
    )
    def test_of_a_detached_header_is_of_its_data_too(
        self, tmp_path: Path, table: ModalityTable, name: str, data: str | None
    ) -> None:
        image = SimpleITK.GetImageFromArray(np.zeros((2, 3, 4), np.int16))
        SimpleITK.WriteImage(image, str(tmp_path / name))
        expected = [tmp_path / name] + ([tmp_path / data] if data else [])

        identity = identity_of(read(tmp_path / name))

        assert [file.path for file in identity.files] == [str(path) for path in expected]
        assert list(files_of(tmp_path / name)) == expected

    def test_of_a_dicom_volume_is_of_all_its_files_and_no_others(
        self, write_stack: Stack, table: ModalityTable
    ) -> None:
        folder = write_stack()
        (folder / "notes.txt").touch()
        (folder / "other.dcm").write_bytes((folder / "0.dcm").read_bytes()[:400])
        paths = [str(folder / f"{number}.dcm") for number in range(2)]

        found = identity_of(read(folder, volume="1.2.3"))

        assert [file.path for file in found.files] == paths

    def test_of_one_dicom_file_is_its_own(self, write_stack: Stack, table: ModalityTable) -> None:
        path = write_stack() / "1.dcm"

        assert identity_of(read(path)).sha256 == hash_of(path)

    def test_names_a_data_file_that_is_not_there(self, tmp_path: Path) -> None:
        image = SimpleITK.GetImageFromArray(np.zeros((2, 3, 4), np.int16))
        SimpleITK.WriteImage(image, str(tmp_path / "a.mhd"))
        (tmp_path / "a.raw").unlink()

        with pytest.raises(CorruptFileError, match=r"'a\.raw' is not there"):
            files_of(tmp_path / "a.mhd")


class TestChange:
    """What is replaced while it is read is noticed, whichever reader reads it."""

    def test_f16_of_a_picture_is_refused(
        self, picture: Path, table: ModalityTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        after(monkeypatch, "read_raster", lambda: replace(picture, 255))

        with pytest.raises(InputChangedError, match=r"a\.png must not change"):
            read(picture)

    def test_f16_of_detached_data_is_refused(
        self, tmp_path: Path, table: ModalityTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image = SimpleITK.GetImageFromArray(np.zeros((2, 3, 4), np.int16))
        SimpleITK.WriteImage(image, str(tmp_path / "a.mhd"))
        data = tmp_path / "a.raw"
        after(monkeypatch, "read_itk", lambda: data.write_bytes(b"x" * 48))

        with pytest.raises(InputChangedError, match=r"a\.raw must not change"):
            read(tmp_path / "a.mhd")

    def test_f16_of_one_slice_of_a_series_is_refused(
        self, write_stack: Stack, table: ModalityTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = write_stack()

        def change() -> None:
            part = dcmread(folder / "1.dcm")
            part.PixelData = bytes(len(part.PixelData))
            part.save_as(folder / "1.dcm")

        after(monkeypatch, "read_dicom", change)

        with pytest.raises(InputChangedError, match=r"1\.dcm must not change"):
            read(folder)

    def test_f16_of_a_file_that_vanishes_is_told(
        self, picture: Path, table: ModalityTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        after(monkeypatch, "read_raster", picture.unlink)

        with pytest.raises(InputNotFoundError, match=r"a\.png must be.*file; there is none"):
            read(picture)

    def test_that_leaves_the_content_as_it_is_is_none(
        self, picture: Path, table: ModalityTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = picture.stat().st_mtime_ns
        after(monkeypatch, "read_raster", lambda: os.utime(picture, ns=(1, before + 10**9)))

        identity = identity_of(read(picture))

        assert identity.modified_ns == before

    def test_f16_of_a_series_since_it_was_looked_at_is_refused(
        self, write_stack: Stack, table: ModalityTable
    ) -> None:
        folder = write_stack()
        (volume,) = find_volumes(folder).volumes
        planned = Item(path=str(folder), name="1.2.3", volume=volume)
        write_stack("1.9.9")

        with pytest.raises(InputChangedError, match=r"files of 1\.2\.3.*hold another volume"):
            read(planned)

    def test_that_leaves_a_series_what_it_was_since_it_was_looked_at_is_none(
        self, write_stack: Stack, table: ModalityTable
    ) -> None:
        folder = write_stack()
        (volume,) = find_volumes(folder).volumes
        planned = Item(path=str(folder), name="1.2.3", volume=volume)
        write_stack()

        assert read(planned).grid.shape == volume.grid.shape


def replace(path: Path, value: int) -> None:
    PIL.Image.fromarray(np.full((3, 4), value, np.uint8)).save(path)


def after(monkeypatch: pytest.MonkeyPatch, reader: str, happens: Callable[[], Any]) -> None:
    """Let something happen just after a reader has read."""
    module = sys.modules["esp_medsam.io.read"]  # that name is the function's, too
    reads = getattr(module, reader)

    def read_and_let_it_happen(*args: Any, **options: Any) -> Any:
        content = reads(*args, **options)
        happens()
        return content

    monkeypatch.setattr(module, reader, read_and_let_it_happen)
