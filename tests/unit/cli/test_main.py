from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from typer.main import get_command

import esp_medsam
from esp_medsam.cli.main import app, main
from esp_medsam.errors import ModalityError
from esp_medsam.workflows import pipeline, planning
from esp_medsam.workflows.left_alone import Counted, LeftAlone
from esp_medsam.workflows.plan import Plan, Plans
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.results import ItemResult
from tests.support.processes import run_python


BUNDLE = Path(__file__).parents[3] / "bundle"

Build = Callable[..., list[Request]]


@pytest.fixture
def unplanned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves finding the items to what is built."""
    monkeypatch.setattr(planning, "plans_of", lambda request: None)


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, unplanned: None) -> Build:
    """Puts a pipeline with these results in place of the real one; returns what was asked for."""

    def build_(*results: ItemResult | type[BaseException]) -> list[Request]:
        asked: list[Request] = []

        class Pipeline:
            is_whole = True
            left_alone = LeftAlone(Counted(("a.txt", "b.txt")))
            plans = Plans(Plan(()))

            def __init__(self) -> None:
                self.on_slices: Callable[[int, int], None] = lambda done, total: None

            def __len__(self) -> int:
                return len(results)

            def tell_slices(self, on_slices: Callable[[int, int], None]) -> None:
                self.on_slices = on_slices

            def results(self, workers: None, journal: object, retries: None) -> object:
                assert workers is None
                for result in results:
                    if isinstance(result, type):
                        raise result
                    self.on_slices(4, 16)
                    yield result

        def build(request: Request, *, plans: Plans | None) -> Pipeline:
            asked.append(request)
            return Pipeline()

        monkeypatch.setattr(pipeline, "build", build)
        return asked

    return build_


DONE = ItemResult(
    path="in/a.png",
    status="done",
    confidence={"lungs": 0.94},
    voxels={"lungs": 3071},
    ml={"lungs": None},
    warnings=("It is upside down.",),
    seconds=0.26,
)
FAILED = ItemResult(path="in/b.png", status="failed", code="E_CORRUPT", message="Copy it again.")
RUN = ("segment", "in", "out", "--modality", "xray")


class TestMain:
    def test_prints_its_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"{esp_medsam.__version__}\n"

    @pytest.mark.parametrize("arguments", [[], ["unknown"], ["segment", "in"], [*RUN, "--no"]])
    def test_wrong_usage_ends_with_2(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 2
        assert "Usage" in "".join(capsys.readouterr())

    @pytest.mark.parametrize(
        "command",
        [
            "",
            "segment",
            "inspect",
            "modalities",
            "convert",
            "evaluate",
            "seg2nifti",
            "pacs",
        ],
    )
    def test_h_is_short_for_help(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*command.split(), "-h"]) == 0
        assert capsys.readouterr().out.startswith(f"Usage: esp-medsam {command}".rstrip())

    @pytest.mark.parametrize("arguments", [["-v", "inspect", "none"], ["inspect", "none", "-v"]])
    def test_v_is_short_for_verbose(
        self, arguments: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        levels = []
        monkeypatch.setattr(logging, "basicConfig", lambda **options: levels.append(options))

        main(arguments)

        assert [options["level"] for options in levels] == [logging.INFO]

    def test_options_are_spelled_with_underscores_and_with_hyphens(self) -> None:
        commands: Any = get_command(app)
        spellings = [
            set(param.opts)
            for command in commands.commands.values()
            for param in command.params
            if any("-" in name.strip("-") or "_" in name for name in param.opts if name[:2] == "--")
        ]

        assert spellings
        for names in spellings:
            assert len(names) == 2, names
            assert len({name.replace("_", "-") for name in names}) == 1

    def test_starts_without_loading_torch(self) -> None:
        code = "import sys, esp_medsam.cli.main; sys.exit('torch' in sys.modules)"

        assert run_python(code).returncode == 0

    def test_leaves_the_excepthook_alone(self) -> None:
        before = sys.excepthook

        main(["--version"])

        assert sys.excepthook is before


class TestSegment:
    def test_ends_with_0_and_says_where_the_masks_are(
        self, build: Build, capsys: pytest.CaptureFixture[str]
    ) -> None:
        build(DONE)

        assert main(RUN) == 0

        shown = capsys.readouterr()
        assert shown.out == "1 done, 0 kept, 0 failed; masks and records are in out.\n"
        assert "Left alone: 2 other files (a.txt, b.txt), 0 outputs of earlier runs." in shown.err
        assert "in/a.png: It is upside down." in shown.err

    def test_ends_with_1_and_a_table_where_an_item_failed(
        self, build: Build, capsys: pytest.CaptureFixture[str]
    ) -> None:
        build(DONE, FAILED)

        assert main(RUN) == 1

        table = capsys.readouterr().err.splitlines()[-2:]
        assert table == ["Failed:", "  E_CORRUPT  in/b.png  Copy it again."]

    def test_off_a_terminal_each_item_is_told_as_it_ends(
        self, build: Build, capsys: pytest.CaptureFixture[str]
    ) -> None:
        build(DONE, FAILED)

        main(RUN)

        assert capsys.readouterr().err.splitlines()[:4] == [
            "Left alone: 2 other files (a.txt, b.txt), 0 outputs of earlier runs.",
            "done in/a.png in 0.3 s: lungs 3,071 pixels (0.94)",
            "in/a.png: It is upside down.",
            "failed in/b.png: E_CORRUPT: Copy it again.",
        ]

    def test_on_a_terminal_bars_count_items_and_slices(
        self, build: Build, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "80")
        build(DONE, FAILED)

        main(RUN)

        told = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
        assert "Segmenting" in told
        assert "2/2" in told
        assert "done in/a.png" not in told

    @pytest.mark.parametrize("where", [0, -1])
    @pytest.mark.parametrize("option", ["-q", "--quiet"])
    def test_quiet_tells_failures_and_the_last_line_alone(
        self, build: Build, capsys: pytest.CaptureFixture[str], option: str, where: int
    ) -> None:
        build(DONE, FAILED)

        assert main([option, *RUN] if where == 0 else [*RUN, option]) == 1

        shown = capsys.readouterr()
        assert shown.err.splitlines() == ["Failed:", "  E_CORRUPT  in/b.png  Copy it again."]
        assert shown.out.startswith("1 done, 0 kept, 1 failed; masks and records are in out")

    def test_interrupt_ends_with_130(
        self, build: Build, capsys: pytest.CaptureFixture[str]
    ) -> None:
        build(DONE, KeyboardInterrupt)

        assert main(RUN) == 130
        assert "the same command goes on" in capsys.readouterr().err

    def test_hands_on_what_is_given_and_leaves_the_rest_to_the_config(self, build: Build) -> None:
        asked = build()
        targets = ["--targets", "liver,kidney", "--targets", "pancreas"]

        main(["segment", "in", "out", "--modality", "CT", *targets, "--split_targets"])

        (request,) = asked
        assert request.settings == {
            "dataset_dir": "in",
            "output_dir": "out",
            "modality": "ct",
            "targets": ("liver", "kidney", "pancreas"),
            "split_targets": True,
        }
        assert request.configs == (BUNDLE / "configs" / "inference.yaml",)
        assert request.runs == ()

    def test_error_behind_another_is_told_in_one_line(
        self,
        unplanned: None,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def fail(*args: object, **options: object) -> None:
            try:
                msg = "modality must be given."
                raise ModalityError(msg)
            except ModalityError as error:
                msg = "MONAI wraps it"
                raise RuntimeError(msg) from error

        monkeypatch.setattr(pipeline, "build", fail)

        assert main(RUN) == 1
        assert capsys.readouterr().err == "E_MODALITY: modality must be given.\n"

    def test_other_errors_are_not_hidden(
        self, unplanned: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: object, **options: object) -> None:
            msg = "a bug"
            raise TypeError(msg)

        monkeypatch.setattr(pipeline, "build", fail)

        with pytest.raises(TypeError, match="a bug"):
            main(RUN)

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (("segment", "none", "out", "--modality", "xray"), "E_NOT_FOUND: none must"),
            (("segment", "none", "out", "--modality", "ray"), "E_MODALITY: modality must be one"),
            ((*RUN, "--targets", "liver"), "E_TARGET: targets of xray must"),
            ((*RUN, "--ckpt_path", "none.pt"), "E_NO_WEIGHTS: ckpt_path must"),
            ((*RUN, "--ckpt_path", "w.pt", "--device", "tpu9"), "E_DEVICE: device must"),
            ((*RUN, "--bundle", "in"), "E_OPTION: bundle must"),
            ((*RUN, "--config", "none.yaml"), "E_NOT_FOUND: config must"),
            ((*RUN, "--config", "broken.yaml"), "E_OPTION: config must"),
            ((*RUN, "--config", "list.yaml"), "E_OPTION: config must"),
            (("evaluate", "d.json", "--dataset", "b"), "E_OPTION: dataset must be one of a;"),
            (("segment", "in", "w.pt", "--modality", "xray"), "E_OUTPUT: w.pt must"),
            (("segment", "in", "w.pt/x", "--modality", "xray"), "E_OUTPUT: w.pt/x must"),
        ],
    )
    def test_what_the_user_can_cause_is_told_in_one_line(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        arguments: tuple[str, ...],
        line: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("in").mkdir()
        PIL.Image.new("L", (8, 8)).save("in/a.png")
        Path("w.pt").touch()
        Path("broken.yaml").write_text("a: [1")
        Path("list.yaml").write_text("- 1")
        item = '{"image": "in/a.png", "modality": "xray", "dataset": "a", "labels": {}}'
        Path("d.json").write_text(f'{{"test": [{item}]}}')

        assert main(arguments) == 1

        (told,) = capsys.readouterr().err.splitlines()
        assert told.startswith(line)
        assert not Path("out").exists()


class TestModalities:
    def test_lists_targets_with_labels_and_codes(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["modalities"]) == 0

        rows = capsys.readouterr().out.splitlines()
        (liver,) = (row for row in rows if row.split()[:2] == ["ct", "liver"])
        assert liver.split()[:4] == ["ct", "liver", "ready", "1"]
        assert "Liver (10200004, SCT)" in liver

    def test_json_holds_the_whole_table(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["modalities", "--json"]) == 0

        table = json.loads(capsys.readouterr().out)
        names = [modality["name"] for modality in table["modalities"]]
        assert names[6:] == ["ct", "mri"]
        assert table["modalities"][0]["targets"][0]["type"]["value"] == "52988006"


def test_what_is_rerun_is_not_divided_into_shares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["segment", "in", "out", "--rerun", str(tmp_path / "verdicts.csv"), "--part", "1/2"]

    assert main(command) == 2
    assert "--rerun takes what failed in one run; leave --part out" in capsys.readouterr().err
