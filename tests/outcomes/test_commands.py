"""What becomes of each bad command line and of each bad place."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from esp_medsam.cli.main import main
from esp_medsam.io.record import JOURNAL
from tests.support.pictures import noise, save_picture


Arrange = Callable[[Path], list[str]]


def picture(path: Path) -> Path:
    return save_picture(path, noise(9, 9, 3))


def asked(*options: str) -> Arrange:
    """Return what asks for one good picture with these options."""
    return lambda home: [str(picture(home / "in/a.png")), str(home / "out"), *options]


def of_file(name: str) -> Arrange:
    return lambda home: [str(home / name), str(home / "out"), "--modality", "fundus"]


def into_itself(home: Path) -> list[str]:
    """A folder that is its own output, where an input is called as an output would be."""
    picture(home / "in/a.png")
    picture(home / "in/a_seg.png")
    return [str(home / "in"), str(home / "in"), "--modality", "fundus", "--overwrite"]


def of_one_name(home: Path) -> list[str]:
    picture(home / "in/a.png")
    picture(home / "in/a.jpg")
    return [str(home / "in"), str(home / "out"), "--modality", "fundus"]


def of_config(text: str) -> Arrange:
    def arrange(home: Path) -> list[str]:
        (home / "mine.yaml").write_text(text)
        return asked("--modality", "ct", "--config", str(home / "mine.yaml"))(home)

    return arrange


def in_a_loop(home: Path) -> list[str]:
    (home / "in").symlink_to("in")
    return [str(home / "in"), str(home / "out"), "--modality", "fundus"]


WINDOW = """transforms:
  ct:
    _target_: esp_medsam.transforms.ModalityTransforms
    intensity: {_target_: esp_medsam.transforms.IntensityRule, hounsfield: [.nan, 300.0]}
"""

CASES: dict[str, tuple[str, str, Arrange]] = {
    "N1 a file that is not there": ("E_NOT_FOUND", "there is none", of_file("none.nii")),
    "C1 an unknown modality": ("E_MODALITY", "'pet'", asked("--modality", "pet")),
    "C1 no modality": ("E_MODALITY", "must be given", asked()),
    "C2 a GPU that is not there": (
        "E_DEVICE", "cuda", asked("--modality", "fundus", "--device", "cuda:7"),
    ),
    "C3 a window that is no number": ("E_OPTION", "hounsfield", of_config(WINDOW)),
    "C3 a deviation of infinity": ("E_OPTION", "pixel_std", of_config("pixel_std: [.inf, 1, 1]\n")),
    "C4 an output that is an input": ("E_OUTPUT", "a_seg", into_itself),
    "C5 two inputs of one name": ("E_NAME_CLASH", "a.jpg", of_one_name),
    "C7 a link that leads to itself": ("E_NOT_FOUND", "there is none", in_a_loop),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_comes_to_what_is_promised(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, words, arrange = CASES[case]
    if case.startswith("C2") and torch.cuda.device_count() > 7:
        pytest.skip("has eight GPUs")
    arguments = arrange(tmp_path)
    before = {path for path in tmp_path.rglob("*") if not path.is_dir()}

    status = main(["segment", *arguments])

    text = "".join(capsys.readouterr())
    told = next(line for line in text.splitlines() if re.search(rf"\b{code}\b", line))
    assert re.search(words, told), told
    assert status in (1, 2)
    assert "Traceback" not in text
    after = {path for path in tmp_path.rglob("*") if not path.is_dir()}
    assert not [
        path for path in after - before if "a_seg" not in path.name and path.name != JOURNAL
    ]


@pytest.mark.parametrize(
    "name", ["größe 図.png", "two words.png", "line\nbreak.png", f"{'n' * 240}.png", "-x.png"]
)
def test_c6_names_of_any_letters_are_done(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "in" / name)

    status = main(["segment", str(tmp_path / "in"), str(tmp_path / "out"), "--modality", "fundus"])

    assert status == 0, capsys.readouterr()
    assert (tmp_path / "out" / f"{name.removesuffix('.png')}_seg.png").is_file()


def test_c6_a_name_too_long_for_its_output_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "in" / f"{'a' * 250}.png")

    status = main(["segment", str(tmp_path / "in"), str(tmp_path / "out"), "--modality", "fundus"])

    assert status == 1
    assert "E_OUTPUT" in (told := "".join(capsys.readouterr()))
    assert "at most 255 bytes" in told


def test_c6_an_output_folder_of_too_long_a_name_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "a.png")

    status = main(
        ["segment", str(tmp_path / "a.png"), str(tmp_path / ("a" * 300)), "--modality", "fundus"]
    )

    assert status == 1
    assert (told := capsys.readouterr().err).startswith("E_OUTPUT: ")
    assert told.count("\n") == 1
