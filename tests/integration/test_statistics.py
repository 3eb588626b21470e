"""Statistics of results and of masks of other origin, by the command."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from esp_medsam.cli.main import main
from tests.support.nifti import save_nifti


BUNDLE = Path(__file__).parents[2] / "bundle"
AFFINE = np.diag([-2.0, 3.0, 5.0, 1.0])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two CT volumes in a folder each."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "scans" / name).mkdir(parents=True)
        values = random.normal(40, 200, (40, 36, 3)).astype(np.int16)
        save_nifti(tmp_path / "scans" / name / "ct.nii.gz", values, AFFINE)
    return tmp_path / "scans"


class TestResults:
    def segment(self, scans: Path, out: Path, weights: Path, *more: str) -> None:
        own = ["--modality", "ct", "--targets", "liver,kidney", "--ckpt_path", str(weights)]
        own += ["--device", "cpu", "--bundle", str(BUNDLE), "--input_size", "64", "--quiet"]
        assert main(["segment", str(scans), str(out), *own, "--output_format", "nifti", *more]) == 0

    def test_are_the_same_whether_measured_with_the_result_or_afterwards(
        self, scans: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.segment(scans, tmp_path / "with", weights, "--statistics")
        self.segment(scans, tmp_path / "without", weights)
        tables = [tmp_path / "with.csv", tmp_path / "without.csv"]
        capsys.readouterr()

        assert main(["statistics", str(tmp_path / "with"), str(tables[0]), "--quiet"]) == 0
        afterwards = ["statistics", str(tmp_path / "without"), str(tables[1]), "--quiet"]
        assert main([*afterwards, "--images", str(scans)]) == 0

        first, second = (rows_of(table) for table in tables)
        assert first == second
        assert [(row["source"], row["target"]) for row in first] == [
            (f"{name}/ct.nii.gz", target) for name in "ab" for target in ("liver", "kidney")
        ]
        assert any(int(row["voxels"]) and float(row["mean"]) for row in first)
        assert {row["unit"] for row in first} == {"HU"}
        jumps = [(row["slice_jump"], row["slice_jump_at"]) for row in first if row["slice_jump"]]
        assert jumps
        assert all(0 <= float(jump) <= 1 and place == "1" for jump, place in jumps)
        assert f"2 done, 0 failed; 4 rows are in {tables[0]}." in capsys.readouterr().out

    def test_of_several_folders_are_merged(
        self, scans: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in "12":
            own = ("--part", f"{number}/2", "--statistics")
            self.segment(scans, tmp_path / f"share{number}", weights, *own)
        self.segment(scans, tmp_path / "whole", weights, "--statistics")
        monkeypatch.chdir(tmp_path)

        assert main(["statistics", "share1", "share2", "shares.csv", "--quiet"]) == 0
        assert main(["statistics", "whole", "whole.csv", "--quiet"]) == 0

        merged = rows_of(Path("shares.csv"))
        parts = [row["mask"].partition("/") for row in merged]
        assert {share for share, _, _ in parts} == {"share1", "share2"}
        named = [{**row, "mask": name} for row, (_, _, name) in zip(merged, parts, strict=True)]
        assert sorted(named, key=lambda row: row["mask"]) == rows_of(Path("whole.csv"))

    def test_of_a_share_that_had_nothing_to_do_are_none(
        self,
        scans: Path,
        weights: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.segment(scans, tmp_path / "out", weights, "--statistics")
        monkeypatch.chdir(tmp_path)
        Path("empty").mkdir()
        Path("empty2").mkdir()

        assert main(["statistics", "empty", "out", "t.csv", "--quiet"]) == 0
        assert len(rows_of(Path("t.csv"))) == 4
        assert main(["statistics", "empty", "empty2", "none.csv", "--quiet"]) == 1
        assert "IN must hold results or masks; empty, empty2 hold none." in capsys.readouterr().err
        assert not Path("none.csv").exists()

    def test_of_a_mask_in_several_folders_are_stated_once(
        self, scans: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.segment(scans, tmp_path / "out", weights, "--statistics")
        monkeypatch.chdir(tmp_path)
        again = ["out/", "./out/../out", str(tmp_path / "out"), "out/a", "out/a/ct_seg.json"]

        assert main(["statistics", "out", *again, "once.csv", "--quiet"]) == 0
        assert main(["statistics", "out/a/ct_seg.json", "out", "parts.csv", "--quiet"]) == 0

        masks = [row["mask"] for row in rows_of(Path("once.csv"))]
        assert masks == ["a/ct_seg.json"] * 2 + ["b/ct_seg.json"] * 2
        masks = [row["mask"] for row in rows_of(Path("parts.csv"))]
        assert masks == ["out/a/ct_seg.json"] * 2 + ["out/b/ct_seg.json"] * 2

    def test_may_be_asked_for_later(
        self, scans: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.segment(scans, tmp_path / "out", weights)
        capsys.readouterr()

        self.segment(scans, tmp_path / "out", weights, "--statistics")
        assert "2 done, 0 kept" in capsys.readouterr().out
        self.segment(scans, tmp_path / "out", weights, "--statistics")
        self.segment(scans, tmp_path / "out", weights)

        assert capsys.readouterr().out.count("0 done, 2 kept, 0 failed") == 2

    def test_a_result_whose_mask_was_changed_fails_alone(
        self, scans: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.segment(scans, tmp_path / "out", weights)
        mask = tmp_path / "out" / "a" / "ct_seg.nii.gz"
        mask.write_bytes(mask.read_bytes()[:-30])

        status = main(["statistics", str(tmp_path / "out"), str(tmp_path / "t.csv")])

        assert status == 1
        told = capsys.readouterr()
        assert "1 done, 1 failed; 2 rows are in" in told.out
        assert "a/ct_seg.json" in told.err
        assert {row["source"] for row in rows_of(tmp_path / "t.csv")} == {"b/ct.nii.gz"}

    def test_a_damaged_record_fails_alone(
        self, scans: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.segment(scans, tmp_path / "out", weights)
        record = tmp_path / "out" / "a" / "ct_seg.json"
        content = json.loads(record.read_text(encoding="utf-8"))
        del content["targets"]
        record.write_text(json.dumps(content), encoding="utf-8")

        status = main(["statistics", str(tmp_path / "out"), str(tmp_path / "t.csv")])

        assert status == 1
        assert "ct_seg.json must be a record of this program" in capsys.readouterr().err
        assert "b/ct.nii.gz" in {row["source"] for row in rows_of(tmp_path / "t.csv")}

    @pytest.mark.parametrize("place", ["../secret.nii.gz", "/etc/secret.nii.gz"])
    def test_images_are_read_below_their_folder_alone(
        self,
        scans: Path,
        weights: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        place: str,
    ) -> None:
        self.segment(scans, tmp_path / "out", weights)
        record = tmp_path / "out" / "a" / "ct_seg.json"
        content = json.loads(record.read_text(encoding="utf-8"))
        content["source"]["path"] = place
        record.write_text(json.dumps(content), encoding="utf-8")

        images = ["--images", str(scans)]
        status = main(["statistics", str(tmp_path / "out"), str(tmp_path / "t.csv"), *images])

        assert status == 1
        assert "must name its image below the folder of images" in capsys.readouterr().err


class TestMasks:
    @pytest.fixture
    def masks(self, tmp_path: Path) -> Path:
        """Masks of three programs, and their images in another folder."""
        labelmap = np.zeros((6, 5, 4), np.uint8)
        labelmap[1:3, 1:3, 1:3], labelmap[4, 4, 3] = 1, 2
        values = np.where(labelmap == 1, 100, -50).astype(np.int16)
        for folder in ("masks", "images"):
            (tmp_path / folder).mkdir()
        for mask, image in (("x_seg", "x"), ("y", "y_0000")):
            save_nifti(tmp_path / "masks" / f"{mask}.nii.gz", labelmap, AFFINE)
            save_nifti(tmp_path / "images" / f"{image}.nii.gz", values, AFFINE)
        PIL.Image.fromarray(labelmap[:, :, 1]).save(tmp_path / "masks" / "z_mask.png")
        PIL.Image.fromarray(labelmap[:, :, 1] + 7).save(tmp_path / "images" / "z.png")
        return tmp_path / "masks"

    def test_each_value_is_a_segment(self, masks: Path, tmp_path: Path) -> None:
        images = ["--images", str(tmp_path / "images"), "--modality", "ct"]

        assert main(["statistics", str(masks), str(tmp_path / "t.json"), *images, "-q"]) in (0, 1)

        rows: list[dict[str, Any]] = json.loads((tmp_path / "t.json").read_text())
        volumes = [row for row in rows if row["mask"] != "z_mask.png"]
        assert [(row["mask"], row["source"], row["target"], row["voxels"]) for row in volumes] == [
            ("x_seg.nii.gz", "x.nii.gz", "liver", 8),
            ("x_seg.nii.gz", "x.nii.gz", "kidney", 1),
            ("y.nii.gz", "y_0000.nii.gz", "liver", 8),
            ("y.nii.gz", "y_0000.nii.gz", "kidney", 1),
        ]
        assert volumes[0]["ml"] == pytest.approx(8 * 30 / 1000)
        assert (volumes[0]["mean"], volumes[0]["unit"]) == (100.0, "HU")
        assert volumes[0]["centroid_mm_right"] == -3.0

    def test_without_images_have_no_intensities(self, masks: Path, tmp_path: Path) -> None:
        assert main(["statistics", str(masks), str(tmp_path / "t.csv"), "-q"]) == 0

        rows = rows_of(tmp_path / "t.csv")
        assert [row["mask"] for row in rows[-1:]] == ["z_mask.png"]
        assert {row["mean"] for row in rows} == {""}

    @pytest.mark.parametrize("sidecar", ["{}", "[1]", '{"Manual": true}', "no JSON"])
    def test_may_lie_beside_what_another_program_says_of_them(
        self, masks: Path, tmp_path: Path, sidecar: str
    ) -> None:
        (masks / "x_seg.json").write_text(sidecar, encoding="utf-8")

        assert main(["statistics", str(masks), str(tmp_path / "t.csv"), "-q"]) == 0

        masks_told = [row["mask"] for row in rows_of(tmp_path / "t.csv")]
        assert masks_told[0] == "x_seg.nii.gz"

    def test_hold_whole_numbers_alone(
        self, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        values = np.zeros((6, 5, 4), np.float32)
        values[0] = 0.5
        save_nifti(masks / "y.nii.gz", values, AFFINE)

        assert main(["statistics", str(masks), str(tmp_path / "t.csv"), "-q"]) == 1

        assert "y.nii.gz must be a mask of whole numbers" in capsys.readouterr().err

    def test_become_parquet(self, masks: Path, tmp_path: Path) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")

        assert main(["statistics", str(masks), str(tmp_path / "t.parquet"), "-q"]) == 0

        table = parquet.read_table(tmp_path / "t.parquet")
        assert table.column("voxels").to_pylist() == [8, 1, 8, 1, 4]
        assert table.column("box_last_3").to_pylist() == [2, 3, 2, 3, None]

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ("moved", "labels must lie where their image does"),
            ("smaller", "labels must lie on their image's grid"),
            ("gone", "images must hold one image of x_seg.nii.gz, called like it; it holds 0"),
        ],
    )
    def test_that_do_not_fit_their_image_are_refused(
        self,
        masks: Path,
        tmp_path: Path,
        change: str,
        said: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        image = tmp_path / "images" / "x.nii.gz"
        image.unlink()
        if change != "gone":
            moved = AFFINE.copy()
            moved[0, 3] = 30
            shape = (6, 5, 4) if change == "moved" else (6, 5, 3)
            save_nifti(image, np.zeros(shape, np.int16), moved)
        own = ["--images", str(tmp_path / "images")]

        status = main(["statistics", str(masks / "x_seg.nii.gz"), str(tmp_path / "t.csv"), *own])

        assert status == 1
        assert said in capsys.readouterr().err
        assert not (tmp_path / "t.csv").exists()

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["t.xlsx"], "OUT must end in one of .csv, .json, .parquet"),
            (["old.csv"], "OUT must not exist yet"),
            (["t.csv", "--images", "nowhere"], "images must be an existing folder"),
            (["t.csv", "--modality", "pet"], "modality must be one of"),
        ],
    )
    def test_what_cannot_be_done_is_refused_before_anything_is_read(
        self,
        masks: Path,
        tmp_path: Path,
        arguments: list[str],
        said: str,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "old.csv").write_text("kept")

        assert main(["statistics", str(masks), *arguments]) == 1

        assert said in capsys.readouterr().err
        assert (tmp_path / "old.csv").read_text() == "kept"
