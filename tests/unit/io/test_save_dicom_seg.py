from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from esp_medsam.dicom import find_volumes
from esp_medsam.errors import (
    DiskFullError,
    OptionError,
    OutputExistsError,
)
from esp_medsam.io import SaveSegmentationd, read_record
from esp_medsam.modality import ModalityTable
from tests.support.results import is_done


Result = Callable[..., dict[str, Any]]
Saver = Callable[..., SaveSegmentationd]
Names = Callable[[], list[str]]
TARGETS = ("kidney", "kidney_tumor")


class TestDicomSeg:
    @pytest.fixture
    def series(self, shipped: Callable[[str], Path], tmp_path: Path) -> Path:
        """Two slices of a CT, of the smallest size there is."""
        folder = tmp_path / "series"
        folder.mkdir()
        for number in range(2):
            slice_ = dcmread(shipped("CT_small.dcm"))
            slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number}"
            slice_.SeriesInstanceUID = "1.2.3"
            slice_.ImagePositionPatient = [0, 0, 2 * number]
            slice_.save_as(folder / f"{number}.dcm")
        return folder

    def test_is_what_dicom_gets_and_agrees_with_the_labelmap(
        self,
        saver: Saver,
        table: ModalityTable,
        result: Result,
        series: Path,
        names: Names,
        tmp_path: Path,
    ) -> None:
        data = result(series)

        saver()(data)

        assert names() == ["1.2.3_seg.dcm", "1.2.3_seg.json"]
        segmentation = hd.seg.segread(tmp_path / "out" / "1.2.3_seg.dcm")
        found = segmentation.get_pixels_by_source_instance(["1.2.0", "1.2.1"])
        labels = [target.label for target in table.select("ct", TARGETS)]
        masks = np.stack([data["pred"][0].numpy() == label for label in labels])
        np.testing.assert_array_equal(found.transpose(3, 2, 1, 0), masks)
        assert [item.SegmentLabel for item in segmentation.SegmentSequence] == [
            "Kidney", "Kidney tumor",
        ]  # fmt: skip
        record = read_record(tmp_path / "out" / "1.2.3_seg")
        assert record is not None
        assert record["formats"] == ["dicom-seg"]
        assert record["empty"] is False

    def test_and_other_formats_are_written_together(
        self, saver: Saver, result: Result, series: Path, names: Names
    ) -> None:
        saver(output_format=["auto", "nifti"], split_targets=True)(result(series))

        endings = ("seg", "seg_kidney", "seg_kidney_tumor")
        assert names() == sorted(
            ["1.2.3_seg.json"]
            + [f"1.2.3_{end}{suffix}" for end in endings for suffix in (".dcm", ".nii.gz")]
        )

    @pytest.mark.parametrize("seg_type", ["binary", "labelmap", "fractional"])
    def test_stores_segments_as_it_was_asked_to(
        self, saver: Saver, result: Result, series: Path, tmp_path: Path, seg_type: str
    ) -> None:
        data = result(series)

        saver(seg_type=seg_type, probabilities=True)(data)

        written = dcmread(tmp_path / "out" / "1.2.3_seg.dcm")
        assert written.SegmentationType == seg_type.upper()
        if seg_type == "labelmap":
            np.testing.assert_array_equal(written.pixel_array.transpose(2, 1, 0), data["pred"][0])
        alone = dcmread(tmp_path / "out" / "1.2.3_seg_kidney_probability.dcm")
        assert alone.SegmentationType == "FRACTIONAL"
        assert alone.SOPInstanceUID != written.SOPInstanceUID
        assert set(np.unique(alone.pixel_array)) == {0, 200}

    def test_is_the_same_from_a_re_run_where_that_is_asked_for(
        self, saver: Saver, result: Result, series: Path, tmp_path: Path
    ) -> None:
        options = {"fixed_uids": True, "split_targets": True, "overwrite": True}
        saver(**options)(result(series))
        first = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.dcm")}

        saver(**options)(result(series))

        again = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.dcm")}
        assert again == first
        assert len({dcmread(path).SOPInstanceUID for path in (tmp_path / "out").glob("*.dcm")}) == 3

    def test_is_the_same_whether_empty_ones_are_written_or_not(
        self, saver: Saver, result: Result, series: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "out" / "1.2.3_seg.dcm"
        saver(fixed_uids=True)(result(series))
        first = path.read_bytes()

        saver(fixed_uids=True, write_empty=True, overwrite=True)(result(series))

        assert path.read_bytes() == first

    def test_of_nothing_is_not_written_and_the_record_says_so(
        self, saver: Saver, result: Result, series: Path, names: Names, tmp_path: Path
    ) -> None:
        saver()(result(series))
        data = result(series)
        data["pred"] *= 0
        data["probability"] *= 0

        saver(overwrite=True)(data)

        assert names() == ["1.2.3_seg.json"]  # nor does the old one stay
        record = read_record(tmp_path / "out" / "1.2.3_seg")
        assert record is not None
        assert (record["empty"], record["files"]) == (True, [])
        (volume,) = find_volumes(series).volumes
        assert is_done(saver(), series, name="1.2.3", volume=volume)
        with pytest.raises(OutputExistsError, match="write_empty False"):
            is_done(saver(write_empty=True), series, name="1.2.3", volume=volume)

    def test_of_nothing_is_written_where_that_is_asked_for(
        self, saver: Saver, result: Result, series: Path, tmp_path: Path
    ) -> None:
        data = result(series)
        data["pred"] *= 0
        data["probability"] *= 0

        saver(write_empty=True)(data)

        assert not hd.seg.segread(tmp_path / "out" / "1.2.3_seg.dcm").pixel_array.any()

    def test_leaves_nothing_where_the_disk_is_full(
        self,
        saver: Saver,
        result: Result,
        series: Path,
        names: Names,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fill(dataset: Any, file: Any) -> None:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("esp_medsam.io.dicom_seg.write_segmentation", fill)

        with pytest.raises(DiskFullError):
            saver()(result(series))
        assert names() == []

    def test_is_not_written_over_a_file_of_another_s(
        self, saver: Saver, result: Result, series: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "out").mkdir()
        path = tmp_path / "out" / "1.2.3_seg.dcm"
        path.write_bytes((series / "0.dcm").read_bytes())

        with pytest.raises(OutputExistsError, match="must not exist"):
            saver()(result(series))

    def test_must_not_be_asked_of_other_images(
        self, saver: Saver, result: Result, scan: Path, names: Names
    ) -> None:
        with pytest.raises(OptionError, match=r"output_format must not be dicom-seg .* Use nifti"):
            saver(output_format="nifti,dicom-seg")(result(scan))
        assert names() == []

    def test_refuses_a_way_to_store_segments_that_is_none(self, saver: Saver) -> None:
        with pytest.raises(OptionError, match="seg_type must be one of binary, labelmap, frac"):
            saver(seg_type="surface")
