from __future__ import annotations

from pathlib import Path
from typing import Any

from esp_medsam.dicom.scan import find_in_folders


SERIES = "1.2.3"


class TestFindInFolders:
    """A series may lie in several folders: half of it must never pass for the whole."""

    def test_a_stack_in_several_folders_is_one_volume(self, dicom: Any, tmp_path: Path) -> None:
        for k in range(6):  # each folder alone would be even, of twice the spacing
            folder = tmp_path / "study" / f"part{k % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            dicom.save(dicom.dataset(k), folder / f"{k}.dcm")
        (tmp_path / "study" / "part1" / "notes.txt").touch()
        folders = [tmp_path / "study" / f"part{k}" for k in range(2)]

        found = dict(find_in_folders(folders))

        (volume,) = found[tmp_path / "study"].volumes
        assert volume.name == SERIES
        assert [piece.source.sop_instance_uid for piece in volume.slices] == [
            f"1.2.3.{k + 1}" for k in range(6)
        ]
        assert volume.grid.affine is not None
        assert volume.grid.affine[2, 2] == 2
        assert [found[folder].volumes for folder in folders] == [(), ()]
        assert found[folders[1]].others == (str(folders[1] / "notes.txt"),)

    def test_other_series_and_pictures_stay_in_their_folders(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        for k in range(2):
            (tmp_path / f"{k}").mkdir()
            own = dicom.dataset(k, SeriesInstanceUID=f"1.2.{k}", SOPInstanceUID=f"1.5.{k}")
            dicom.save(own, tmp_path / f"{k}" / "own")
            dicom.save(dicom.picture(k), tmp_path / f"{k}" / "picture")

        found = dict(find_in_folders([tmp_path / "0", tmp_path / "1"]))

        assert [[v.name for v in found[tmp_path / k].volumes] for k in "01"] == [
            ["1.2.0", f"{SERIES}.1"],
            ["1.2.1", f"{SERIES}.2"],
        ]

    def test_copies_are_taken_each_and_parts_of_them_say_so(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        folders = [tmp_path / name for name in ("copy", "first", "key_images")]
        for folder in folders:
            folder.mkdir()
        for folder, count in zip(folders, (3, 3, 1), strict=True):
            dicom.save_stack(folder, count)

        found = dict(find_in_folders(folders))

        volumes = [found[folder].volumes[0] for folder in folders]
        assert [len(volume.slices) for volume in volumes] == [3, 3, 1]
        told = [["images of its series" in w for w in volume.warnings] for volume in volumes]
        assert [any(each) for each in told] == [False, False, True]
        assert any(
            "1 of the 3 images of its series" in warning and "in 3 folders" in warning
            for warning in volumes[2].warnings
        )

    def test_folders_that_overlap_are_taken_each_and_say_so(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        for name, numbers in (("a", (0, 1)), ("b", (1, 2))):
            (tmp_path / name).mkdir()
            for k in numbers:
                dicom.save(dicom.dataset(k), tmp_path / name / f"{k}")

        found = dict(find_in_folders([tmp_path / "a", tmp_path / "b"]))

        for read in found.values():
            (volume,) = read.volumes
            assert len(volume.slices) == 2
            assert "2 of the 3 images of its series" in volume.warnings[-1]

    def test_a_bad_file_in_one_folder_takes_the_stack_of_all(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        for k in range(4):
            folder = tmp_path / f"{k // 2}"
            folder.mkdir(exist_ok=True)
            data = bytes(48 if k < 3 else 8)
            dicom.save(dicom.dataset(k, PixelData=data), folder / f"{k}")

        found = dict(find_in_folders([tmp_path / "0", tmp_path / "1"]))

        assert [held.volumes for held in found.values()] == [(), (), ()]
        ((_, error),) = found[tmp_path].refused
        assert f"{tmp_path / '1' / '3'} must hold 48 bytes of pixels" in str(error)
