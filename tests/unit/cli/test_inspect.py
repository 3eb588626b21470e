from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from esp_medsam.cli.main import main
from esp_medsam.io.picture_file import write_gray_png
from esp_medsam.workflows.inspect import Inspection
from tests.support.nifti import save_nifti


Shown = pytest.CaptureFixture[str]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in/a.png"
    path.parent.mkdir()
    PIL.Image.new("RGB", (30, 20), (200, 0, 0)).save(path)
    return path


def blocks(out: str) -> list[dict[str, str]]:
    """Return the printed blocks: each line by its first word, the path as ``path``."""
    found: list[dict[str, str]] = []
    for line in out.splitlines():
        if line.startswith("  "):
            name, value = line.split(maxsplit=1)
            found[-1][name] = value
        else:
            found.append({"path": line})
    return found


class TestInspect:
    def test_prints_what_was_understood_of_a_volume(self, tmp_path: Path, capsys: Shown) -> None:
        voxels = np.zeros((8, 9, 10), np.int16)
        voxels[0, 0, 0], voxels[1, 0, 0] = -1024, 1500
        save_nifti(tmp_path / "a.nii.gz", voxels, np.diag([-0.5, -0.5, 2.5, 1]))

        assert main(["inspect", str(tmp_path / "a.nii.gz"), "--modality", "ct"]) == 0

        (block,) = blocks(capsys.readouterr().out)
        assert block == {
            "path": str(tmp_path / "a.nii.gz"),
            "kind": "NIfTI",
            "modality": "ct (given)",
            "grid": "8 x 9 x 10",
            "spacing": "0.5 x 0.5 x 2.5 mm",
            "orientation": "LPS",
            "slices": "10 axial",
            "intensities": "-1024 to 1500 (HU, int16)",
        }

    def test_picture_without_a_modality_is_described_and_says_so(
        self, picture: Path, capsys: Shown
    ) -> None:
        assert main(["inspect", str(picture)]) == 0

        (block,) = blocks(capsys.readouterr().out)
        assert block["kind"] == "picture"
        assert block["modality"].startswith("not given")
        assert block["grid"] == "20 rows x 30 columns, 3 channels"
        assert block["spacing"] == block["orientation"] == "not stated"
        assert block["intensities"] == "0 to 200 (as stored, uint8)"

    def test_ends_with_1_where_an_item_is_refused(self, picture: Path, capsys: Shown) -> None:
        (picture.parent / "b.nii.gz").write_bytes(b"no volume")
        (picture.parent / "c.txt").write_text("x")

        assert main(["inspect", str(picture.parent)]) == 1

        shown = capsys.readouterr()
        good, bad = blocks(shown.out)
        assert good["kind"] == "picture"
        assert bad["refused"].startswith("E_FORMAT: ")
        assert "Left alone: 1 other file (c.txt)" in shown.err
        assert "1 read, 1 refused." in shown.err

    def test_json_is_one_object_for_each_item(self, picture: Path, capsys: Shown) -> None:
        (picture.parent / "b.png").write_bytes(b"no picture")

        assert main(["inspect", str(picture.parent), "--json", "--modality", "fundus"]) == 1

        read, refused = (json.loads(line) for line in capsys.readouterr().out.splitlines())
        assert read["status"] == "read"
        assert (read["modality"], read["modality_origin"]) == ("fundus", "user")
        assert (read["shape"], read["axes"]) == ([20, 30], ["rows", "columns"])
        assert (read["intensities"], read["unit"], read["warnings"]) == ([0, 200], None, [])
        assert refused == {
            "status": "refused",
            "path": str(picture.parent / "b.png"),
            "volume": None,
            "code": "E_FORMAT",
            "message": refused["message"],
        }

    def test_lines_hold_no_control_codes_of_a_name(self, picture: Path, capsys: Shown) -> None:
        picture.rename(picture.parent / "a\x1b[31m\nb[bold].png")

        assert main(["inspect", str(picture.parent)]) == 0

        assert "a\\x1b[31m\\nb[bold].png" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (("none",), "E_NOT_FOUND: none must be"),
            (("empty",), "E_NO_INPUT: empty must"),
            (("in", "--modality", "ray"), "E_MODALITY: modality must be one of"),
            (("in", "--ct_input", "bytes"), "E_OPTION: ct_input must"),
            (("in", "--slice_axis", "up"), "E_OPTION: slice_axis must"),
            (("in", "--preview", "a.jpg"), "E_OPTION: preview must end in .png"),
            (("in", "--preview", "old.png"), "E_EXISTS: preview must not exist"),
            (("in", "--preview", "in/a.png", "--overwrite"), "E_OPTION: preview must not"),
            (("in", "--bundle", "empty"), "E_OPTION: bundle must"),
            (("in", "--config", "none.yaml"), "E_NOT_FOUND: config must"),
        ],
    )
    def test_what_the_user_can_cause_is_told_in_one_line(
        self,
        picture: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: Shown,
        arguments: tuple[str, ...],
        line: str,
    ) -> None:
        monkeypatch.chdir(picture.parents[1])
        Path("empty").mkdir()
        Path("old.png").write_bytes(b"old")

        assert main(["inspect", *arguments]) == 1

        shown = capsys.readouterr()
        (told,) = shown.err.splitlines()
        assert told.startswith(line)
        assert shown.out == ""
        assert Path("old.png").read_bytes() == b"old"

    @pytest.mark.parametrize("arguments", [[], ["a", "b"], ["a", "--no"], ["a", "--frame", "x"]])
    def test_wrong_usage_ends_with_2(self, arguments: list[str], capsys: Shown) -> None:
        assert main(["inspect", *arguments]) == 2

    def test_interrupt_ends_with_130(
        self, picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
    ) -> None:
        def interrupt(self: Inspection, item: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Inspection, "inspect", interrupt)

        assert main(["inspect", str(picture)]) == 130


class TestPreview:
    def test_draws_what_the_network_will_see(
        self, picture: Path, tmp_path: Path, capsys: Shown
    ) -> None:
        sheet = tmp_path / "sheet.png"

        assert main(["inspect", str(picture), "--modality", "fundus", "--preview", str(sheet)]) == 0

        assert f"Preview: {sheet}" in capsys.readouterr().err
        with PIL.Image.open(sheet) as drawn:
            red = (np.array(drawn) == (200, 0, 0)).all(axis=2)
        assert red.sum() == 448 * round(448 * 20 / 30)

    def test_replaces_an_older_one_when_told_to(self, picture: Path, tmp_path: Path) -> None:
        write_gray_png(tmp_path / "sheet.png", np.zeros((1, 1), np.uint8))
        sheet = str(tmp_path / "sheet.png")

        status = main(
            ["inspect", str(picture), "--modality", "fundus", "--preview", sheet, "--overwrite"]
        )

        assert status == 0
        with PIL.Image.open(sheet) as drawn:
            assert drawn.size > (1, 1)

    def test_without_a_modality_fails_and_writes_nothing(
        self, picture: Path, tmp_path: Path, capsys: Shown
    ) -> None:
        assert main(["inspect", str(picture), "--preview", str(tmp_path / "sheet.png")]) == 1

        shown = capsys.readouterr()
        assert "E_MODALITY" in shown.out
        assert "No preview" in shown.err
        assert not (tmp_path / "sheet.png").exists()

    def test_is_left_alone_by_later_runs_where_it_lies_among_the_images(
        self, picture: Path, capsys: Shown
    ) -> None:
        folder = picture.parent
        sheet = str(folder / "sheet.png")
        assert main(["inspect", str(folder), "--modality", "fundus", "--preview", sheet]) == 0
        capsys.readouterr()

        assert main(["inspect", str(folder), "--modality", "fundus"]) == 0

        shown = capsys.readouterr()
        assert [block["path"] for block in blocks(shown.out)] == [str(picture)]
        assert "1 output of earlier runs" in shown.err
