from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from tests.support.plans import TABLE, images, make, plan_items, planned


class TestSparedInputs:
    """C4: no output may replace an input, whatever the options say."""

    @pytest.mark.parametrize(
        "other", ["a_seg.png", "A_SEG.PNG", "a_seg_liver.nii.gz", "a_seg_preview.png", "a_seg.tif"]
    )
    def test_c4_an_image_whose_output_would_be_an_input_is_refused_and_the_rest_goes_on(
        self, tmp_path: Path, other: str
    ) -> None:
        root = make(tmp_path / "in", "a.png", other, "b.png", "x/a.png", "a_segment.png")

        plan = planned(root, root)

        assert set(images(plan, root)) == {other, "b.png", "x/a.png", "a_segment.png"}
        (item,) = plan.refused
        error = item.error
        assert item.path == str(root / "a.png")
        assert error.code == "E_OUTPUT"
        assert str(root / "a.png") in str(error)
        assert str(root / other) in str(error)
        assert "Choose another output folder, or rename" in str(error)

    def test_c4_elsewhere_there_is_nothing_to_spare(self, tmp_path: Path) -> None:
        root = make(tmp_path / "in", "a.png", "a_seg.png")

        assert len(planned(root, tmp_path / "out").items) == 2
        assert len(planned(root, root / "out").items) == 2

    def test_c4_input_that_is_left_out_or_is_the_only_one_spares_none(self, tmp_path: Path) -> None:
        root = make(tmp_path / "in", "a.png", "a_seg.png")

        assert images(planned(root, root, "a.png"), root) == ["a.png"]
        assert images(planned(root / "a.png", root), root) == ["a.png"]

    def test_c4_input_without_an_output_is_spared_as_well(self, tmp_path: Path) -> None:
        root = make(tmp_path / "in", "a.png", "a_seg.png", "a_seg.bmp")  # the latter two clash

        plan = planned(root, root)

        assert plan.items == ()
        assert sorted(refusal.result.code or "" for refusal in plan.refused) == [
            *("E_NAME_CLASH", "E_NAME_CLASH", "E_OUTPUT")
        ]

    def test_c4_where_nothing_is_written_nothing_is_refused(self, tmp_path: Path) -> None:
        root = make(tmp_path / "in", "a.png", "a_seg.png")

        assert len(plan_items(root, None, table=TABLE, modality="mri").items) == 2

    @pytest.mark.parametrize("way", ["output is a link", "input leads there", "input is a link"])
    def test_c4_through_links_too(self, tmp_path: Path, way: str) -> None:
        root = make(tmp_path / "in", "a.png")
        out = tmp_path / "out"
        if way == "output is a link":
            make(root, "a_seg.png")
            out.symlink_to(root)
        elif way == "input leads there":
            make(out, "a_seg.png")
            (root / "b.png").symlink_to(out / "a_seg.png")
        else:  # as data management tools keep them
            out = root
            make(tmp_path / "store", "1234")
            (root / "a_seg.png").symlink_to(tmp_path / "store/1234")

        refused = [Path(item.path).name for item in planned(root, out).refused]

        assert refused == ["a.png"]

    def test_c4_a_dicom_file_is_spared_as_well(self, tmp_path: Path) -> None:
        dataset = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
        root = make(tmp_path / "in", "a.png")
        dataset.save_as(root / "a_seg.json")

        plan = planned(root, root, modality="ct")

        assert [Path(item.path).name for item in plan.refused] == ["a.png"]
        assert [item.volume_name for item in plan.items] == [dataset.SeriesInstanceUID]
