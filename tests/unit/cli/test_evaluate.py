from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from esp_medsam.cli.main import main


Shown = pytest.CaptureFixture[str]
Evaluate = Callable[..., int]

COLUMNS = ["dataset", "modality", "target", "image", "present", "dice", "voxels", "true_voxels"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with two pictures, a mask, their datalist, and a config of small input."""
    monkeypatch.chdir(tmp_path)
    pixels, mask = np.full((48, 64), 90, np.uint8), np.zeros((48, 64), np.uint8)
    mask[10:30, 20:40] = 255
    (tmp_path / "images").mkdir()
    for name in "ab":
        PIL.Image.fromarray(pixels + mask // 2).save(tmp_path / f"images/{name}.png")
    PIL.Image.fromarray(mask).save(tmp_path / "images/m.png")
    made = {"modality": "xray", "dataset": "made"}
    items = [
        {**made, "image": "images/a.png", "labels": {"lungs": "images/m.png"}},
        {**made, "image": "images/b.png", "labels": {}, "absent": ["lungs"]},
    ]
    (tmp_path / "d.json").write_text(json.dumps({"test": items}))
    (tmp_path / "small.yaml").write_text("input_size: [64, 64]\ntargets: lungs\n")
    return tmp_path


@pytest.fixture
def evaluate(home: Path) -> Evaluate:
    return lambda *options: main(
        ["evaluate", "d.json", "--config", "small.yaml", "--device", "cpu", *options]
    )


class TestCases:
    def test_csv_has_a_row_for_each_case_and_target(
        self, evaluate: Evaluate, capsys: Shown
    ) -> None:
        assert evaluate("--cases", "out/cases.csv") == 0

        with Path("out/cases.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [list(row) for row in rows] == [COLUMNS, COLUMNS]
        assert [(row["image"], row["target"], row["present"]) for row in rows] == [
            ("images/a.png", "lungs", "True"),
            ("images/b.png", "lungs", "False"),
        ]
        assert [row["true_voxels"] for row in rows] == ["400", "0"]
        shown = capsys.readouterr()
        assert "mean Dice" in shown.out
        assert shown.err.splitlines()[-1] == "2 rows are in out/cases.csv."

    def test_json_holds_the_scores_that_the_means_are_of(
        self, evaluate: Evaluate, capsys: Shown
    ) -> None:
        assert evaluate("--json", "--cases", "cases.json") == 0

        (mean,) = json.loads(capsys.readouterr().out)
        first, second = json.loads(Path("cases.json").read_text())
        assert list(first) == COLUMNS
        assert (mean["dice"], mean["empty"]) == (first["dice"], second["dice"])

    def test_are_not_replaced_without_a_word(self, evaluate: Evaluate, capsys: Shown) -> None:
        Path("cases.csv").write_text("mine")

        assert evaluate("--cases", "cases.csv") == 1
        assert capsys.readouterr().err.startswith("E_EXISTS: cases must not exist yet;")
        assert Path("cases.csv").read_text() == "mine"

    @pytest.mark.parametrize(
        ("path", "told"),
        [
            ("cases.txt", "cases must end in .csv or .json; got cases.txt."),
            ("d.json", "cases must be none of the inputs; got d.json."),
        ],
    )
    def test_go_where_they_may(
        self, evaluate: Evaluate, capsys: Shown, path: str, told: str
    ) -> None:
        assert evaluate("--cases", path, "--overwrite") == 1
        assert capsys.readouterr().err.startswith(f"E_OPTION: {told}")


class TestOptions:
    def test_targets_of_the_command_count_before_those_of_the_config(
        self, evaluate: Evaluate, capsys: Shown
    ) -> None:
        assert evaluate("--targets", "liver") == 1
        assert capsys.readouterr().err.startswith("E_TARGET: targets of xray must be chosen from")

    def test_config_that_could_run_code_needs_trust(
        self, evaluate: Evaluate, capsys: Shown
    ) -> None:
        Path("small.yaml").write_text("network: $print('run')\n")

        assert evaluate() == 1
        assert capsys.readouterr().err.startswith("E_OPTION: config must hold settings")

    def test_section_without_items_is_refused(self, evaluate: Evaluate, capsys: Shown) -> None:
        Path("d.json").write_text('{"test": []}')

        assert evaluate() == 1
        assert capsys.readouterr().err.startswith("E_OPTION: datalist must hold at least one item")

    def test_unknown_target_of_an_item_is_refused(self, evaluate: Evaluate, capsys: Shown) -> None:
        text = Path("d.json").read_text()
        Path("d.json").write_text(text.replace('"lungs"', '"lung"'))

        assert evaluate() == 1
        assert capsys.readouterr().err.startswith("E_TARGET: labels and absent of images/a.png")
