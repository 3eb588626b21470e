"""What files keep apart and a user may join."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from esp_medsam import io
from esp_medsam.dicom import find_volumes
from esp_medsam.dicom.scan import find_in_folders
from esp_medsam.errors import GeometryError, OptionError
from esp_medsam.modality import Modality, ModalityTable
from tests.support.dicom_files import save_stack


SERIES = "1.2.3"
TABLE = ModalityTable((Modality("ct", 0, (), dicom_modalities=("CT",)),))


def series(k: int) -> str:
    return f"1.2.{30 + k}"


def frame(k: int) -> str:
    return f"1.9.{k}"


class TestSeries:
    def test_of_a_slice_each_are_told_to_look_like_neighbors(self, tmp_path: Path) -> None:
        save_stack(tmp_path, 4, SeriesInstanceUID=series)

        volumes = find_volumes(tmp_path).volumes

        assert [volume.name for volume in volumes] == [series(k) for k in range(4)]
        for volume in volumes:
            assert volume.joined == ()
            assert re.search("3 others .* Pass `join` series", volume.warnings[-1])

    def test_with_frames_of_reference_are_told_both_options(self, tmp_path: Path) -> None:
        save_stack(tmp_path, 4, SeriesInstanceUID=series, FrameOfReferenceUID=frame)

        volume = find_volumes(tmp_path).volumes[0]

        assert "Pass `join` series,frame_of_reference to" in volume.warnings[-1]

    @pytest.mark.parametrize(
        "changes",
        [
            {"StudyInstanceUID": lambda k: f"1.5.{k}"},
            {"ImagePositionPatient": [0, 0, 0]},
            {"Modality": lambda k: ("CT", "PT")[k % 2]},
        ],
    )
    def test_that_are_no_neighbors_are_told_nothing(
        self, tmp_path: Path, changes: Mapping[str, Any]
    ) -> None:
        save_stack(tmp_path, 4, SeriesInstanceUID=series, **changes)

        volumes = find_volumes(tmp_path).volumes

        assert len(volumes) == 4
        assert [len(volume.warnings) for volume in volumes] == [1] * 4

    def test_are_one_volume_by_the_user_s_word(self, tmp_path: Path) -> None:
        save_stack(tmp_path, 4, SeriesInstanceUID=series)

        (volume,) = find_volumes(tmp_path, join=["series"]).volumes

        assert volume.name == f"{series(0)}_SeriesInstanceUID-joined"
        assert volume.grid.shape == (6, 4, 4)
        assert volume.grid.affine is not None
        assert volume.joined == ("series",)
        (warning,) = volume.warnings
        assert re.search("4 slices .* `join` includes series", warning)
        assert [part.source.series_uid for part in volume.slices] == [series(k) for k in range(4)]

    def test_leave_whole_series_alone(self, tmp_path: Path) -> None:
        save_stack(tmp_path / "a", 4)
        save_stack(tmp_path / "b", 4, SeriesInstanceUID=series)

        found = [
            volume
            for _, held in find_in_folders([tmp_path / "a", tmp_path / "b"], join=["series"])
            for volume in held.volumes
        ]

        assert {volume.name: volume.joined for volume in found} == {
            SERIES: (), f"{series(0)}_SeriesInstanceUID-joined": ("series",),
        }  # fmt: skip

    def test_that_lie_in_a_folder_each_are_one_volume(self, dicom: Any, tmp_path: Path) -> None:
        folders = []
        for k in range(4):
            folders.append(tmp_path / f"{k}")
            folders[k].mkdir()
            dicom.save(dicom.dataset(k, SeriesInstanceUID=series(k)), folders[k] / "0.dcm")

        found = {f: held.volumes for f, held in find_in_folders(folders, join=["series"])}

        (volume,) = found[tmp_path]
        assert volume.grid.shape == (6, 4, 4)
        hinted = [volume for _, held in find_in_folders(folders) for volume in held.volumes]
        assert ["`join` series" in volume.warnings[-1] for volume in hinted] == [True] * 4

    def test_are_referenced_each_by_the_segmentation(
        self, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        save_stack(tmp_path / "in", 4, SeriesInstanceUID=series)
        image = io.read(tmp_path / "in", join=["series"])

        dataset = seg.made(image, seg.scattered(image))

        assert {
            item.SeriesInstanceUID: [r.ReferencedSOPInstanceUID for r in item[0x0008114A].value]
            for item in dataset.ReferencedSeriesSequence
        } == {series(k): [f"1.2.3.{k + 1}"] for k in range(4)}

    def test_without_a_study_are_of_nobody_knows_whom(self, tmp_path: Path) -> None:
        save_stack(tmp_path, 4, SeriesInstanceUID=series, StudyInstanceUID=None)

        volumes = find_volumes(tmp_path, join=["series"]).volumes

        assert len(volumes) == 4
        assert not any("--join" in note for volume in volumes for note in volume.warnings)

    def test_are_joined_by_names_that_come_one_by_one(self, tmp_path: Path) -> None:
        save_stack(tmp_path, 4, SeriesInstanceUID=series)

        (volume,) = find_volumes(tmp_path, join=(name for name in ["series"])).volumes

        assert volume.joined == ("series",)


class TestFramesOfReference:
    def test_that_a_slice_states_is_that_of_all(self, seg: SimpleNamespace, tmp_path: Path) -> None:
        save_stack(tmp_path / "in", 4, FrameOfReferenceUID=lambda k: frame(0) if k else None)
        join = ["frame_of_reference"]
        (volume,) = find_volumes(tmp_path / "in", join=join).volumes
        image = io.read(tmp_path / "in", join=join)

        dataset = seg.made(image, seg.scattered(image))

        assert volume.frame_of_reference_uid == dataset.FrameOfReferenceUID == frame(0)
        groups = dataset.PerFrameFunctionalGroupsSequence
        assert all("PlanePositionSequence" in group for group in groups)

    def test_of_a_slice_each_are_refused_with_the_option(self, dicom: Any, tmp_path: Path) -> None:
        save_stack(tmp_path, 4, FrameOfReferenceUID=frame)

        error = dicom.refusal(find_volumes(tmp_path))

        assert isinstance(error, GeometryError)
        assert "Pass `join` frame_of_reference if" in str(error)

    @pytest.mark.parametrize("uid", [frame, lambda k: frame(0) if k else None])
    def test_are_one_by_the_user_s_word(self, tmp_path: Path, uid: Any) -> None:
        save_stack(tmp_path, 4, FrameOfReferenceUID=uid)

        (volume,) = find_volumes(tmp_path, join=["frame_of_reference"]).volumes

        assert volume.name == SERIES
        assert volume.joined == ("frame_of_reference",)
        assert "`join` includes frame_of_reference" in volume.warnings[-1]

    def test_of_series_that_are_joined_are_joined_too(self, tmp_path: Path) -> None:
        save_stack(tmp_path, 4, SeriesInstanceUID=series, FrameOfReferenceUID=frame)

        apart = find_volumes(tmp_path, join=["series"])
        (volume,) = find_volumes(tmp_path, join=["series", "frame_of_reference"]).volumes

        assert len(apart.volumes) == 4
        assert volume.joined == ("series", "frame_of_reference")


class TestInterleaved:
    def test_volumes_say_what_told_them_and_the_option(self, tmp_path: Path) -> None:
        save_stack(tmp_path, 6, AcquisitionNumber=lambda k: k % 2)

        volumes = find_volumes(tmp_path).volumes

        assert len(volumes) == 2
        for volume in volumes:
            (warning,) = volume.warnings
            assert re.search("AcquisitionNumber. Pass `join` interleaved", warning)

    def test_are_one_by_the_user_s_word(self, tmp_path: Path) -> None:
        save_stack(tmp_path, 6, AcquisitionNumber=lambda k: k % 2)

        (volume,) = find_volumes(tmp_path, join=["interleaved"]).volumes

        assert volume.name == SERIES
        assert volume.grid.shape == (6, 4, 6)
        assert volume.joined == ("interleaved",)
        assert "`join` includes interleaved" in volume.warnings[-1]


@pytest.mark.parametrize("join", [["series"], ["frame_of_reference", "interleaved"]])
def test_a_stack_that_needs_no_joining_is_read_as_without(tmp_path: Path, join: list[str]) -> None:
    save_stack(tmp_path, 4)

    (volume,) = find_volumes(tmp_path, join=join).volumes

    assert (volume.name, volume.joined, volume.warnings) == (SERIES, (), ())


def test_nothing_else_is_joined(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"join must be.*of series,.*got 'studies'"):
        find_volumes(tmp_path, join=["studies"])
