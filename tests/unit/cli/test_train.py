from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from esp_medsam.cli.main import main
from tests.support.pictures import write_radiographs


Shown = pytest.CaptureFixture[str]
Train = Callable[..., int]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with two pictures, a mask, their datalist, and a config of small input."""
    monkeypatch.chdir(tmp_path)
    write_radiographs(tmp_path)
    Path("small.yaml").write_text("samples_per_epoch: 2\nbatch_size: 2\nwarmup_steps: 1\n")
    return tmp_path


@pytest.fixture
def train(home: Path) -> Train:
    options = ["--config", "small.yaml", "--device", "cpu", "--input-size", "64", "--epochs", "1"]
    return lambda *further: main(["train", "d.json", "out", *options, *further])


class TestTrain:
    def test_trains_goes_on_and_refuses_other_settings(
        self, train: Train, capsys: Shown, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert train("--frozen", "image_encoder.*") == 0
        assert torch.load("out/model.pt", weights_only=True)
        hint = "esp-medsam segment IN OUT --ckpt_path out/model.pt --input_size 64"
        assert caplog.messages[-1] == f"Segment with: {hint}"
        capsys.readouterr()

        further = ("--epochs", "2", "--cache-dir", "kept")
        assert train("--frozen", "image_encoder.*", *further) == 0
        assert list(Path("kept").glob("*.safetensors"))
        assert [e["epoch"] for e in json.loads(Path("out/history.json").read_text())] == [1, 2]

        assert train("--learning-rate", "1e-4") == 1
        shown = capsys.readouterr().err
        assert "E_OPTION: resume must use the settings that the run" in shown
        assert "frozen was ('image_encoder.*',), is (); learning_rate was 0.0008" in shown

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--epochs", "ten"), "epochs must be a whole number; got 'ten'"),
            (("--amp", "maybe"), "amp must be"),
            (("--input-size", "100"), "input_size must"),
            (("--pretrained", "$print(1)"), "E_NOT_FOUND: pretrained must be an existing file"),
            (("--frozen", "encoder.*"), "frozen must match names of parameters; got 'encoder.*'"),
            (("--config", "other.yaml"), "config must be an existing file"),
        ],
    )
    def test_refuses_what_is_not_so_in_one_line(
        self, train: Train, capsys: Shown, options: tuple[str, ...], said: str
    ) -> None:
        assert train(*options) == 1

        shown = capsys.readouterr().err
        assert said in shown
        assert "Traceback" not in shown
        assert not list(Path("out").rglob("*.pt"))

    def test_a_config_is_data(self, train: Train, capsys: Shown) -> None:
        Path("evil.yaml").write_text("network: $print(1)\n")
        Path("seed.yaml").write_text("seed: $print(1)\n")

        assert train("--config", "evil.yaml") == 1
        assert "config must only hold settings of train.yaml" in capsys.readouterr().err
        assert train("--config", "seed.yaml") == 1
        assert "seed must be a plain value" in capsys.readouterr().err

    def test_refuses_an_output_that_is_a_file(self, home: Path, capsys: Shown) -> None:
        assert main(["train", "d.json", "small.yaml/run"]) == 1
        shown = capsys.readouterr().err
        assert shown.startswith("E_OUTPUT: output_dir must be a writable folder;")
        assert f"{home / 'small.yaml'} is not." in shown

    def test_refuses_an_output_that_cannot_be_written_to(
        self, home: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != home)

        assert main(["train", "d.json", "out"]) == 1
        shown = capsys.readouterr().err
        assert shown.startswith("E_OUTPUT: ")
        assert f"{home} is not" in shown
        assert not (home / "out").exists()

    def test_needs_a_datalist(self, home: Path, capsys: Shown) -> None:
        assert main(["train", "none.json", "out"]) == 1

        assert "E_NOT_FOUND: datalist must be an existing file" in capsys.readouterr().err
        assert not Path("out").exists()
