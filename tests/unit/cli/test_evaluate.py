from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from esp_medsam.cli.main import main
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows import evaluation_plots
from esp_medsam.workflows.case_score import TargetScore
from tests.support.networks import save_random_weights


Shown = pytest.CaptureFixture[str]
Evaluate = Callable[..., int]

COLUMNS = list(TargetScore._fields)


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


class TestOutputs:
    @pytest.mark.parametrize(
        ("option", "path", "code"),
        [
            ("--cases", "folder.csv", "E_OPTION"),
            ("--cases", "/proc/none/c.csv", "E_OUTPUT"),
            ("--summary", "images/a.png/s.json", "E_OUTPUT"),
        ],
    )
    def test_that_cannot_be_written_are_refused_before_anything_is_computed(
        self,
        evaluate: Evaluate,
        capsys: Shown,
        monkeypatch: pytest.MonkeyPatch,
        option: str,
        path: str,
        code: str,
    ) -> None:
        Path("folder.csv").mkdir()
        monkeypatch.setattr("esp_medsam.workflows.pipeline.read_config", None)

        assert evaluate(option, path, "--overwrite") == 1

        assert capsys.readouterr().err.startswith(f"{code}: ")


class TestTargets:
    def test_may_come_with_commas(self, evaluate: Evaluate, capsys: Shown) -> None:
        assert evaluate("--targets", "lungs,bones") == 1

        assert "got 'bones'" in capsys.readouterr().err

    @pytest.mark.parametrize("key", ["labels", "absent"])
    def test_of_a_datalist_that_no_weights_know_are_refused_before_any_image_is_read(
        self, home: Path, evaluate: Evaluate, capsys: Shown, key: str
    ) -> None:
        content = json.loads((home / "d.json").read_text())
        bogus = {"bogus": "none.png"} if key == "labels" else ["bogus"]
        content["test"].append({**content["test"][0], "image": "none.png", key: bogus})
        (home / "d.json").write_text(json.dumps(content))

        assert evaluate("--cases", "cases.csv") == 1

        told = capsys.readouterr()
        assert re.match(r"E_TARGET: .*none\.png.* targets of xray.*; got bogus", told.err)
        assert (told.out, Path("cases.csv").exists()) == ("", False)


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
        assert "Dice (95 %)" in shown.out
        assert shown.err.splitlines()[-2:] == [
            "2 rows are in out/cases.csv.",
            "2 done, 0 kept, 0 failed.",
        ]

    def test_json_holds_the_scores_that_the_means_are_of(
        self, evaluate: Evaluate, capsys: Shown
    ) -> None:
        assert evaluate("--json", "--cases", "cases.json") == 0

        printed = json.loads(capsys.readouterr().out)
        (mean,) = printed["scores"]
        first, second = json.loads(Path("cases.json").read_text())
        assert list(first) == COLUMNS
        assert (mean["dice"], mean["empty"]) == (first["dice"], second["dice"])
        assert (printed["protocol"], printed["tolerance"], mean["unit"]) == ("native", 2.0, "px")

    def test_are_not_replaced_without_a_word(self, evaluate: Evaluate, capsys: Shown) -> None:
        Path("cases.csv").write_text("mine")

        assert evaluate("--cases", "cases.csv") == 1
        assert capsys.readouterr().err.startswith("E_EXISTS: cases must not exist;")
        assert Path("cases.csv").read_text() == "mine"

    @pytest.mark.parametrize(
        ("path", "told"),
        [
            ("cases.txt", "cases must end in .csv or .json; got cases.txt."),
            ("d.json", "cases must not be an input; got d.json."),
        ],
    )
    def test_go_where_they_may(
        self, evaluate: Evaluate, capsys: Shown, path: str, told: str
    ) -> None:
        assert evaluate("--cases", path, "--overwrite") == 1
        assert capsys.readouterr().err.startswith(f"E_OPTION: {told}")


class TestMaskRules:
    def test_are_those_of_the_command(
        self, evaluate: Evaluate, home: Path, table: ModalityTable, capsys: Shown
    ) -> None:
        weights = str(save_random_weights(home / "random.pt", table))
        found = {}
        for threshold in ("0.01", "0.99"):
            cases = f"{threshold}.json"
            own = ["--threshold", threshold, "--cases", cases, "--ckpt_path", weights]
            assert evaluate("--json", *own) == 0
            printed = json.loads(capsys.readouterr().out)
            rules = {rule["threshold"] for rule in printed["mask_rules"].values()}
            assert rules == {float(threshold)}
            found[threshold] = sum(case["voxels"] for case in json.loads(Path(cases).read_text()))

        assert found["0.01"] > found["0.99"]

    def test_are_not_stated_if_they_are_the_usual_ones(
        self, evaluate: Evaluate, capsys: Shown
    ) -> None:
        assert evaluate("--json") == 0

        assert json.loads(capsys.readouterr().out)["mask_rules"] == {}


class TestSummary:
    def test_is_what_json_prints(self, evaluate: Evaluate, capsys: Shown) -> None:
        assert evaluate("--json", "--summary", "summary.json", "--seed", "3") == 0

        printed = json.loads(capsys.readouterr().out)
        assert json.loads(Path("summary.json").read_text()) == printed
        assert len(printed["weights_sha256"]) == 64
        assert printed["settings"]["flips"] is False
        assert printed["seed"] == 3

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (("--summary", "s.csv"), "summary must end in .json; got s.csv."),
            (
                ("--summary", "s.json", "--cases", "s.json"),
                "summary must not be the same file as cases; got s.json for both.",
            ),
            (("--summary", "d.json", "--overwrite"), "summary must not be an input;"),
            (("--tolerance", "0"), "tolerance must be greater than 0; got 0.0."),
            (("--resamples", "5"), "resamples must be at least 100; got 5."),
            (("--seed", "-1"), "seed must be at least 0; got -1."),
            (("--protocol", "paper"), "protocol must be 'native' or 'released'; got 'paper'."),
        ],
    )
    def test_wrong_values_are_told_before_anything_is_scored(
        self, evaluate: Evaluate, capsys: Shown, options: tuple[str, ...], told: str
    ) -> None:
        assert evaluate(*options) == 1
        assert capsys.readouterr().err.startswith(f"E_OPTION: {told}")


class TestCompare:
    @pytest.mark.parametrize("name", ["before.csv", "before.json"])
    def test_a_model_does_not_differ_from_itself(
        self, evaluate: Evaluate, capsys: Shown, name: str
    ) -> None:
        assert evaluate("--cases", name, "--json") == 0
        capsys.readouterr()

        assert evaluate("--compare", name, "--json") == 0
        comparison = json.loads(capsys.readouterr().out)["comparison"]
        assert {one["mean"] for one in comparison["differences"]} == {0.0}
        assert {one["p_value"] for one in comparison["differences"]} == {1.0}
        assert (comparison["unpaired"], comparison["others_unpaired"]) == (0, 0)

    def test_cases_of_another_protocol_are_refused(self, evaluate: Evaluate, capsys: Shown) -> None:
        assert evaluate("--cases", "before.csv", "--protocol", "released") == 0
        assert "Released protocol" in capsys.readouterr().out

        assert evaluate("--compare", "before.csv") == 1
        told = capsys.readouterr().err.splitlines()[-1]
        assert told.startswith("E_OPTION: compare must hold cases that were measured in the same")
        assert "protocol released for native" in told

    def test_table_is_printed(self, evaluate: Evaluate, capsys: Shown) -> None:
        assert evaluate("--cases", "before.csv") == 0
        capsys.readouterr()

        assert evaluate("--compare", "before.csv") == 0
        assert "Wilcoxon signed-rank" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("name", "code"), [("none.csv", "E_NOT_FOUND"), ("d.json", "E_OPTION")]
    )
    def test_other_files_are_refused_before_anything_is_scored(
        self, evaluate: Evaluate, capsys: Shown, name: str, code: str
    ) -> None:
        assert evaluate("--compare", name) == 1
        assert capsys.readouterr().err.startswith(f"{code}: compare must ")


class TestPlots:
    def test_without_their_package_are_refused_first(
        self, evaluate: Evaluate, capsys: Shown, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(evaluation_plots, "find_spec", lambda name: None)

        assert evaluate("--plots", "drawn") == 1
        assert capsys.readouterr().err.startswith(
            "E_OPTION: plots must have matplotlib, which is missing; install"
        )
        assert not Path("drawn").exists()

    def test_are_written_where_asked(self, evaluate: Evaluate, capsys: Shown) -> None:
        pytest.importorskip("matplotlib")

        assert evaluate("--plots", "drawn") == 0
        assert Path("drawn/dice.png").read_bytes().startswith(b"\x89PNG")
        assert "Wrote drawn/dice.png." in capsys.readouterr().err


class TestOptions:
    def test_targets_of_the_command_count_before_those_of_the_config(
        self, evaluate: Evaluate, capsys: Shown
    ) -> None:
        assert evaluate("--targets", "liver") == 1
        assert capsys.readouterr().err.startswith("E_TARGET: targets of xray must be chosen from")

    @pytest.mark.parametrize(
        ("name", "content", "told"),
        [
            ("small.yaml", "network: $print('run')\n", "config must only hold settings"),
            ("d.json", '{"test": []}', "datalist must hold at least one item"),
        ],
    )
    def test_config_that_could_run_code_and_section_without_items_are_refused(
        self, evaluate: Evaluate, capsys: Shown, name: str, content: str, told: str
    ) -> None:
        Path(name).write_text(content)

        assert evaluate() == 1
        assert capsys.readouterr().err.startswith(f"E_OPTION: {told}")

    def test_unknown_target_of_an_item_is_refused(self, evaluate: Evaluate, capsys: Shown) -> None:
        text = Path("d.json").read_text()
        Path("d.json").write_text(text.replace('"lungs"', '"lung"'))

        assert evaluate() == 1
        assert capsys.readouterr().err.startswith("E_TARGET: labels and absent of images/a.png")


class TestFailures:
    @pytest.fixture(autouse=True)
    def _one_cannot_be_read(self, home: Path) -> None:
        (home / "images/c.png").write_bytes((home / "images/a.png").read_bytes()[:80])
        content = json.loads((home / "d.json").read_text())
        content["test"].insert(0, {**content["test"][0], "image": "images/c.png"})
        (home / "d.json").write_text(json.dumps(content))

    def test_end_none_of_the_others_and_are_named_at_the_end(
        self, evaluate: Evaluate, capsys: Shown
    ) -> None:
        assert evaluate("--cases", "cases.csv") == 1

        told = capsys.readouterr()
        assert "Not scored: 1 of 3 images" in told.out
        assert "2 done, 0 kept, 1 failed." in told.err
        assert re.search(r"^  E_\w+ +images/c\.png  ", told.err, re.MULTILINE)
        with Path("cases.csv").open(newline="") as file:
            assert [row["image"] for row in csv.DictReader(file)] == [
                "images/a.png",
                "images/b.png",
            ]

    def test_are_listed_in_json(self, evaluate: Evaluate, capsys: Shown) -> None:
        assert evaluate("--json", "--summary", "s.json") == 1

        printed = json.loads(capsys.readouterr().out)
        assert [one["image"] for one in printed["failed"]] == ["images/c.png"]
        assert printed["failed"][0]["code"].startswith("E_")
        assert [score["present"] for score in printed["scores"]] == [1]
        assert json.loads(Path("s.json").read_text()) == printed

    def test_of_all_images_leave_no_file(
        self, home: Path, evaluate: Evaluate, capsys: Shown
    ) -> None:
        content = json.loads((home / "d.json").read_text())
        (home / "d.json").write_text(json.dumps({"test": content["test"][:1]}))

        assert evaluate("--cases", "cases.csv", "--summary", "s.json") == 1

        assert "0 done, 0 kept, 1 failed." in capsys.readouterr().err
        assert not any(Path(name).exists() for name in ("cases.csv", "s.json"))


class TestInterrupted:
    def test_says_that_it_starts_over(
        self, evaluate: Evaluate, capsys: Shown, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("esp_medsam.workflows.evaluate.CaseScorer.score", interrupt)

        assert evaluate("--cases", "cases.csv") == 130

        assert "to start over, run the same command" in capsys.readouterr().err
        assert not Path("cases.csv").exists()
