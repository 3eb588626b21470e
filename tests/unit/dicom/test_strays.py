from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esp_medsam import io
from esp_medsam.dicom import find_volumes
from esp_medsam.dicom.scan import find_in_folders
from esp_medsam.dicom.strays import find_strays
from esp_medsam.errors import CorruptFileError
from esp_medsam.io.item import Item
from esp_medsam.modality import ModalityTable


SERIES = "1.2.3"


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def without_start(path: Path) -> None:
    path.write_bytes(path.read_bytes()[77:])


def overwritten(path: Path) -> None:
    path.write_bytes(b"\xa5" * path.stat().st_size)


def cut_before_series(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\x20\x00\x0d\x00")])


def cut_in_meta(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:140])


def cut_in_preamble(path: Path) -> None:
    path.write_bytes(bytes(64))


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("gone"))


def zeroed_behind_its_mark(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:132] + bytes(1000))


DAMAGES = (
    empty, zeroed, without_start, overwritten, cut_before_series, cut_in_meta, cut_in_preamble,
    dangling, zeroed_behind_its_mark,
)  # fmt: skip


def stack(dicom: Any, folder: Path, count: int = 5, **changes: Any) -> list[Path]:
    """Slices whose numbers count from 1."""
    paths: list[Path] = dicom.save_stack(folder, count, InstanceNumber=lambda k: k + 1, **changes)
    return paths


class TestStacks:
    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.parametrize("place", [0, 2])
    def test_that_lack_what_a_stray_may_be_are_refused(
        self, dicom: Any, tmp_path: Path, damage: Callable[[Path], None], place: int
    ) -> None:
        files = stack(dicom, tmp_path)
        damage(files[place])

        found = find_volumes(tmp_path)

        assert found.volumes == ()
        error = dict(found.refused)[SERIES]
        assert isinstance(error, CorruptFileError)
        assert f"{files[place]} " in str(error)
        assert "take them out of the folder" in str(error)

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_that_lack_nothing_are_read_and_say_what_lies_there(
        self, dicom: Any, tmp_path: Path, damage: Callable[[Path], None]
    ) -> None:
        files = stack(dicom, tmp_path)
        damage(files[4])

        (volume,) = find_volumes(tmp_path).volumes

        assert len(volume.slices) == 4
        assert f"may be images of it: {files[4]} " in volume.warnings[-1]

    @pytest.mark.parametrize(
        ("missing", "told"),
        [
            ({2}, r"4\.000 mm lie between .*1\.dcm and .*3\.dcm, 2\.000 mm between most"),
            ({0}, r"lacks InstanceNumber \(0020,0013\) 1,"),
            ({0, 1}, r"lacks InstanceNumber \(0020,0013\) 1, 2,"),
        ],
    )
    def test_say_what_they_lack(
        self, dicom: Any, tmp_path: Path, missing: set[int], told: str
    ) -> None:
        for place in missing:
            empty(stack(dicom, tmp_path)[place])
        for place in missing:
            empty(tmp_path / f"{place}.dcm")

        with pytest.raises(CorruptFileError, match=told):
            raise dicom.refusal(find_volumes(tmp_path))

    def test_lack_images_that_their_acquisition_had(self, dicom: Any, tmp_path: Path) -> None:
        files = stack(dicom, tmp_path, AcquisitionNumber=3, ImagesInAcquisition=5)
        empty(files[4])

        with pytest.raises(CorruptFileError, match=r"had 5 images by Images.* of which 4 are"):
            raise dicom.refusal(find_volumes(tmp_path))

    def test_of_a_class_that_nobody_knows_are_refused_too(self, dicom: Any, tmp_path: Path) -> None:
        files = [
            dicom.save(dicom.dataset(k, "1.2.840.99999.1", InstanceNumber=k), tmp_path / f"{k}")
            for k in range(4)
        ]
        cut_before_series(files[1])

        with pytest.raises(CorruptFileError, match="is damaged before it names its series"):
            raise dict(find_volumes(tmp_path).refused)[SERIES]

    def test_with_a_gap_but_no_stray_are_read_as_they_lie(self, dicom: Any, tmp_path: Path) -> None:
        stack(dicom, tmp_path, ImagesInAcquisition=9)[2].unlink()

        (volume,) = find_volumes(tmp_path).volumes

        assert len(volume.slices) == 4
        assert not any("may be images" in warning for warning in volume.warnings)

    @pytest.mark.parametrize(
        "numbers",
        [
            [None, 2, 3, 4],  # not stated by all
            [2, 2, 3, 4],  # not their own
            [11, 12, 13, 14],  # which count on from another series
            [2, 4, 6, 8],  # in even steps
            [1, 2, 3, 4],
        ],
    )
    def test_lack_nothing_by_numbers_that_say_nothing(
        self, dicom: Any, tmp_path: Path, numbers: list[int | None]
    ) -> None:
        for k, number in enumerate(numbers):
            dicom.save(dicom.dataset(k, InstanceNumber=number), tmp_path / f"{k}.dcm")
        (tmp_path / "9.dcm").touch()

        assert [len(volume.slices) for volume in find_volumes(tmp_path).volumes] == [4]

    def test_of_a_series_lack_a_number_that_none_of_its_volumes_has(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        for k in range(8):
            place = [0, 0, k // 2]
            stated = dicom.dataset(
                k, InstanceNumber=k + 1, ImagePositionPatient=place, EchoNumbers=k % 2 + 1
            )
            dicom.save(stated, tmp_path / f"{k}.dcm")
        assert len(find_volumes(tmp_path).volumes) == 2
        empty(tmp_path / "0.dcm")

        found = find_volumes(tmp_path)

        assert found.volumes == ()
        assert len(found.refused) == 2

    def test_of_another_series_with_a_gap_are_told_alone(self, dicom: Any, tmp_path: Path) -> None:
        stack(dicom, tmp_path)
        for k in (0, 1, 3):
            other = dicom.dataset(k, SeriesInstanceUID="1.7", InstanceNumber=k + 1)
            other.SOPInstanceUID = f"1.7.{k}"
            dicom.save(other, tmp_path / f"other{k}.dcm")
        (tmp_path / "other2.dcm").touch()

        found = find_volumes(tmp_path)

        assert [volume.name for volume in found.volumes] == [SERIES]
        assert [name for name, _ in found.refused] == ["1.7"]

    def test_of_many_strays_name_some(self, dicom: Any, tmp_path: Path) -> None:
        files = stack(dicom, tmp_path, 9)
        for file in files[2:7]:
            empty(file)

        error = str(dicom.refusal(find_volumes(tmp_path)))

        assert f"{files[2]} is empty, {files[3]} is empty, {files[4]} is empty, and 2 more" in error

    @settings(
        max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_never_lose_a_slice_in_silence(
        self, dicom: Any, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        folder = tmp_path_factory.mktemp("stack")
        count = data.draw(st.integers(2, 9))
        files = stack(dicom, folder, count)
        lost = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=count - 1))
        for place in lost:
            data.draw(st.sampled_from(DAMAGES))(files[place])

        found = find_volumes(folder)

        assert all("may be images" in volume.warnings[-1] for volume in found.volumes)
        left = [place for place in range(count) if place not in lost]
        if len(set(np.diff(left))) > 1:  # a gap wider than the others
            assert found.volumes == ()
            assert SERIES in dict(found.refused)
        else:
            assert found.volumes or SERIES in dict(found.refused)
            assert all(len(volume.slices) == len(left) for volume in found.volumes)


class TestPictures:
    def test_and_cines_say_what_lies_there_and_are_read(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save(dicom.picture(0, InstanceNumber=1), tmp_path / "0.dcm")
        dicom.save(dicom.picture(2, InstanceNumber=3), tmp_path / "2.dcm")
        enhanced = dicom.enhanced([(0, 0, 0), (0, 0, 2), (0, 0, 6)], InstanceNumber=7)
        enhanced.SeriesInstanceUID, enhanced.SOPInstanceUID = "1.8", "1.8.1"
        dicom.save(enhanced, tmp_path / "3.dcm")
        (tmp_path / "1.dcm").touch()

        found = find_volumes(tmp_path)

        assert len(found.volumes) == 3
        assert found.refused == ()
        assert all("1.dcm is empty" in volume.warnings[-1] for volume in found.volumes)


class TestFindStrays:
    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("3.dcm", b"", "is empty"),
            ("3.DICOM", b"", "is empty"),
            ("IM3", b"", "is empty"),
            ("1.2.840.3", b"", "is empty"),
            ("3.img", b"", "is empty"),
            ("3.txt", bytes(200), "begins with zeros"),
            ("3", bytes(3), "begins with zeros"),
            ("x", b"abc" * 9 + b"DICM" + b"abc" * 9, "has DICOM's mark in the wrong place"),
            ("x.ima", b"hello", "has content that is not DICOM"),
            ("IM0003", b"hello", "has content that is not DICOM"),
            ("03.img", b"hello", "has content that is not DICOM"),
        ],
    )
    def test_takes_what_may_be_a_slice(
        self, tmp_path: Path, name: str, content: bytes, reason: str
    ) -> None:
        (tmp_path / name).write_bytes(content)

        (stray,) = find_strays([tmp_path / name], ["IM0001", "1.img"])

        assert (stray.path, stray.reason) == (str(tmp_path / name), reason)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("README", b""),
            ("README", b"hello"),
            ("notes.txt", b""),
            ("list.json", b"{}"),
            ("MD5SUMS", b"abc  IM0001"),
            ("thumb.jpg", b"\xff\xd8\xff\xe0"),
            ("thumb.jpg", b""),
            (".DS_Store", bytes(99)),
            (".hidden", b""),
            ("report", b"hello"),
        ],
    )
    def test_leaves_what_is_none(self, tmp_path: Path, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)

        assert find_strays([tmp_path / name], ["IM0001", "1.img"]) == []

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
    def test_leaves_pipes(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "3.dcm")

        assert find_strays([tmp_path / "3.dcm"], []) == []

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
    def test_takes_what_cannot_be_opened(self, tmp_path: Path) -> None:
        (tmp_path / "3.dcm").write_bytes(b"x")
        (tmp_path / "3.dcm").chmod(0)

        (stray,) = find_strays([tmp_path / "3.dcm"], [])

        assert stray.reason == "cannot be opened"


class TestFolders:
    def test_of_one_series_count_together(self, dicom: Any, tmp_path: Path) -> None:
        folders = [tmp_path / name for name in "ab"]
        files = stack(dicom, tmp_path / "all", 6)
        for k, file in enumerate(files):
            folders[k % 2].mkdir(exist_ok=True)
            file.rename(folders[k % 2] / file.name)
        empty(folders[1] / "3.dcm")

        found = dict(find_in_folders(folders))

        assert found[tmp_path].volumes == ()
        assert str(folders[1] / "3.dcm") in str(dict(found[tmp_path].refused)[SERIES])

    def test_leave_out_what_the_user_did(self, dicom: Any, tmp_path: Path) -> None:
        files = stack(dicom, tmp_path)
        empty(files[2])

        ((_, found),) = find_in_folders([tmp_path], lambda path: path != files[2])

        (volume,) = found.volumes
        assert not any("may be images" in warning for warning in volume.warnings)


class TestRead:
    def test_a_folder_is_refused_as_in_a_run(
        self, dicom: Any, tmp_path: Path, table: ModalityTable
    ) -> None:
        empty(stack(dicom, tmp_path)[2])

        with pytest.raises(CorruptFileError, match=r"2\.dcm is empty"):
            io.read(tmp_path)

    def test_files_that_were_planned_are_read_without_another_look(
        self, dicom: Any, tmp_path: Path, table: ModalityTable
    ) -> None:
        files = stack(dicom, tmp_path)
        (volume,) = find_volumes(tmp_path, files[:4]).volumes
        planned = Item(path=str(tmp_path), name=SERIES, volume=volume)
        empty(files[4])

        image = io.read(planned)

        assert not any("may be images" in warning for warning in image.warnings)
        assert np.asarray(image.pixels).shape == (1, 6, 4, 4)

    def test_a_file_by_its_name_is_read_alone(
        self, dicom: Any, tmp_path: Path, table: ModalityTable
    ) -> None:
        files = stack(dicom, tmp_path)
        empty(files[2])

        image = io.read(files[1])

        assert not any("may be images" in warning for warning in image.warnings)
