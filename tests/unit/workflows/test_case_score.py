from __future__ import annotations

import json
from pathlib import Path

import pytest

from esp_medsam.errors import InputNotFoundError, OptionError
from esp_medsam.workflows.case_score import TargetScore, read_cases, write_cases


FULL = TargetScore(
    dataset='a "set", and more',
    modality="mri",
    target="glioma",
    image="a/ü.png",
    present=True,
    dice=0.1 + 0.2,
    iou=1 / 3,
    voxels=5,
    true_voxels=7,
    precision=0.0,
    recall=1.0,
    surface_dice=0.5,
    hd95=3.25,
    hd=4.0,
    unit="mm",
    tolerance=2.0,
    confidence=0.75,
    patient="007",
)
EMPTY = TargetScore("s", "ct", "liver", "b.nii.gz", False, 0.0, 0.0, 5, 0, error="false alarm")


class TestReadCases:
    @pytest.mark.parametrize("name", ["c.csv", "c.JSON"])
    def test_gives_back_what_was_written(self, tmp_path: Path, name: str) -> None:
        write_cases(tmp_path / name, [FULL, EMPTY])

        assert read_cases(tmp_path / name) == [FULL, EMPTY]

    def test_reads_what_a_spreadsheet_saved_with_a_mark_of_its_encoding(
        self, tmp_path: Path
    ) -> None:
        write_cases(tmp_path / "c.csv", [FULL])
        content = (tmp_path / "c.csv").read_bytes()
        (tmp_path / "c.csv").write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))

        assert read_cases(tmp_path / "c.csv") == [FULL]

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (b"dataset,dice\ns,0.5\n", "case 0, modality must be given"),
            (b"\xff\xfe\x00", "got .*decode"),
            (b'a,b\n"x', "got "),
            (b"a,b\n1,2,3\n", "got a row longer than the first"),
        ],
    )
    def test_refuses_tables_of_something_else(
        self, tmp_path: Path, content: bytes, told: str
    ) -> None:
        (tmp_path / "c.csv").write_bytes(content)

        with pytest.raises(OptionError, match=f"compare must hold cases.*{told}"):
            read_cases(tmp_path / "c.csv")

    @pytest.mark.parametrize("content", ["{}", "[1]", "[", '[{"dice": "x"}]'])
    def test_refuses_json_of_something_else(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "c.json").write_text(content)

        with pytest.raises(OptionError, match="compare must hold cases as `cases` writes them"):
            read_cases(tmp_path / "c.json")

    @pytest.mark.parametrize("value", ["nan", "inf", "2", "-0.1"])
    def test_refuses_a_dice_that_is_none(self, tmp_path: Path, value: str) -> None:
        row = {**FULL._asdict(), "dice": value}
        (tmp_path / "c.json").write_text(json.dumps([row]))

        with pytest.raises(OptionError, match="case 0, dice must be"):
            read_cases(tmp_path / "c.json")

    def test_says_where_there_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputNotFoundError, match=r"compare must be.*file"):
            read_cases(tmp_path / "none.csv")
