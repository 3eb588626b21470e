"""Runtimes behind the command: the same masks, and a record of what computed them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from esp_medsam.cli.main import main
from esp_medsam.workflows import runtime_choice, runtime_trial


def segment(source: Path, out: Path, *options: str) -> int:
    asked = ("--modality", "fundus", "--device", "cpu", "--input_size", "224")
    return main(["segment", str(source), str(out), *asked, *options])


def mask_of(out: Path, name: str = "a") -> np.ndarray:
    with PIL.Image.open(out / f"{name}_seg.png") as picture:
        return np.asarray(picture)


def runtime_of(out: Path, name: str = "a") -> str:
    record = json.loads((out / f"{name}_seg.json").read_text())
    return str(record["runtime"])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "esp-medsam"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_named_runtime_gives_the_mask_of_pytorch(
    photographs: Path, tmp_path: Path, cache: Path, name: str
) -> None:
    pytest.importorskip(name)

    assert segment(photographs / "a.png", tmp_path / "eager") == 0
    assert segment(photographs / "a.png", tmp_path / "other", "--runtime", name) == 0

    expected, found = mask_of(tmp_path / "eager"), mask_of(tmp_path / "other")
    assert (expected > 0).mean() > 0.01
    assert (found != expected).mean() < 1e-4
    assert runtime_of(tmp_path / "eager").startswith("eager ")
    assert runtime_of(tmp_path / "other").startswith(f"{name} ")
    assert len(list((cache / "engines").iterdir())) == 1


def test_results_of_another_runtime_are_kept(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert segment(photographs / "a.png", out, "--runtime", "eager") == 0
    written = (out / "a_seg.json").read_bytes()

    assert segment(photographs / "a.png", out, "--runtime", "onnxruntime") == 0

    assert (out / "a_seg.json").read_bytes() == written


def test_a_runtime_that_is_not_there_is_one_line(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert segment(photographs / "a.png", tmp_path / "out", "--runtime", "tensorrt") == 1

    told = capsys.readouterr().err.strip()
    assert told.startswith("E_OPTION: runtime must be one that runs on cpu (eager, openvino, ")
    assert "\n" not in told
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_a_run_of_many_pictures_makes_a_trial_and_uses_its_winner_throughout(
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv(runtime_choice.VARIABLE)
    monkeypatch.setattr(runtime_choice, "WORTH_IT", 100.0)  # whichever is fastest here
    monkeypatch.setattr(runtime_trial, "MOST_SECONDS", 300.0)
    with PIL.Image.open(photographs / "a.png") as picture:
        for number in range(20):
            picture.rotate(number).save(photographs / f"c{number}.png")

    assert segment(photographs, tmp_path / "out") == 0

    told = capsys.readouterr().err
    assert "Trying out " in told
    (used,) = {runtime_of(tmp_path / "out", f"c{number}") for number in range(20)}
    assert f"{used.split()[0]} is used" in told
    assert not used.startswith("eager")
