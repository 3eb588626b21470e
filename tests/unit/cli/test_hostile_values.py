"""What a user types, or a file is called, is never run, looked up or read as another file."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest

from esp_medsam.cli.main import main
from esp_medsam.workflows.bundle import BUNDLE_VARIABLE


PAYLOADS = (
    "$__import__('pathlib').Path('pwned').touch()",
    "$import os",
    "@initialize",
    "@",
    "%bundle.yaml",
    "{_target_: os.system}",
)

SEGMENT = (
    "--modality", "--targets", "--output_format", "--seg_type", "--device", "--include",
    "--exclude", "--series", "--ct_input", "--slice_axis", "--input_size", "--ckpt_path",
    "--config", "--bundle",
)  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a picture in ``in``, weights that are none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(BUNDLE_VARIABLE, raising=False)
    Path("in").mkdir()
    PIL.Image.new("L", (8, 8)).save("in/a.png")
    Path("w.pt").touch()
    return tmp_path


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command, which fails in one line; return that."""
    assert main(arguments) in (1, 2)
    lines = capsys.readouterr().err.splitlines()
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


@pytest.mark.parametrize(
    "size", ["9" * 5000, "9" * 12, "", "-32", "33", "1e3", "\N{ARABIC-INDIC DIGIT FOUR}"]
)
@pytest.mark.parametrize("command", [["segment", "in", "out"], ["inspect", "in"]])
def test_a_size_that_is_none_is_refused_in_a_line(
    command: list[str], size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--modality", "xray", "--input_size", size]

    assert told([*command, *options], capsys).startswith("E_OPTION: input_size must be")


@pytest.mark.parametrize("payload", PAYLOADS)
class TestSegment:
    @pytest.mark.parametrize("option", SEGMENT)
    def test_s3_option_is_text(
        self, payload: str, option: str, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        given = {"--modality": "xray", "--ckpt_path": "w.pt", "--device": "cpu", option: payload}
        options = [part for pair in given.items() for part in pair]

        told(["segment", "in", "out", *options], capsys)

        assert not (folder / "pwned").exists()
        assert not (folder / "out").exists()

    def test_s3_input_is_a_path(
        self, payload: str, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        line = told(["segment", payload, "out", "--modality", "xray"], capsys)

        assert line == f"E_NOT_FOUND: {payload} must be an existing file or folder; there is none."
        assert not (folder / "pwned").exists()

    def test_s3_input_of_that_name_is_read(
        self, payload: str, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        name = payload.replace("/", "")
        Path(name).mkdir()
        PIL.Image.new("L", (8, 8)).save(f"{name}/a.png")

        line = told(["segment", name, name, "--modality", "xray", "--ckpt_path", "w.pt"], capsys)

        assert line.startswith("E_CHECKPOINT: w.pt must be a state dict")
        assert not (folder / "pwned").exists()


@pytest.mark.parametrize("payload", PAYLOADS)
class TestOtherCommands:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("inspect", "PAYLOAD"),
            ("inspect", "in", "--config", "PAYLOAD"),
            ("inspect", "in", "--modality", "PAYLOAD"),
            ("inspect", "in", "--include", "PAYLOAD"),
            ("inspect", "in", "--slice_axis", "PAYLOAD"),
            ("evaluate", "PAYLOAD"),
            ("evaluate", "d.json", "--device", "PAYLOAD"),
            ("evaluate", "d.json", "--section", "PAYLOAD"),
            ("evaluate", "d.json", "--ckpt_path", "PAYLOAD"),
            ("seg2nifti", "PAYLOAD", "out"),
            ("convert", "PAYLOAD", "out.pt", "--from", "sam"),
            ("modalities", "--bundle", "PAYLOAD"),
        ],
    )
    def test_s3_take_values_as_text(
        self,
        payload: str,
        arguments: tuple[str, ...],
        folder: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        Path("d.json").write_text('{"test": []}')

        told([payload if part == "PAYLOAD" else part for part in arguments], capsys)

        assert not (folder / "pwned").exists()


class TestEmptyPath:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("segment", "", "out"),
            ("segment", "in", ""),
            ("segment", "in", "out", "--config", ""),
            ("segment", "in", "out", "--ckpt_path", ""),
            ("inspect", ""),
            ("inspect", "in", "--preview", ""),
            ("seg2nifti", "", "out"),
            ("convert", "", "out", "--from", "sam"),
            ("evaluate", ""),
        ],
    )
    def test_is_not_the_current_folder(
        self, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 2
        assert "it must not be empty" in capsys.readouterr().err
