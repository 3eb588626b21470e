"""A bundle whose table names TiC: trained, then segmented with, by the commands alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image as PILImage

from esp_medsam.cli.main import main
from esp_medsam.networks.state_dicts import load_checkpoint
from tests.support.pictures import rectangle, write_radiographs


CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"


@pytest.mark.slow
def test_trains_and_segments_at_two_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = (CONFIGS / "targets.yaml").read_text(encoding="utf-8")
    Path("tic.yaml").write_text(f"image_encoder: tic\n{shipped}", encoding="utf-8")
    write_radiographs(tmp_path, rectangle((45, 70)))
    Path("small.yaml").write_text("samples_per_epoch: 2\nwarmup_steps: 1\n", encoding="utf-8")

    assert main(["new-bundle", "mine", "--targets", "tic.yaml"]) == 0
    small = ["--config", "small.yaml", "--epochs", "1", "--batch_size", "2", "--device", "cpu"]
    assert main(["train", "d.json", "run", "--bundle", "mine", "--input_size", "64", *small]) == 0

    weights = ["--bundle", "mine", "--ckpt_path", "run/model.pt", "--device", "cpu"]
    for size in ("native", "64"):
        options = ["--modality", "xray", "--input_size", size]
        assert main(["segment", "training.png", f"out-{size}", *options, *weights]) == 0
        with PILImage.open(f"out-{size}/training_seg.png") as found:
            assert found.size == (70, 45)
        record = json.loads(Path(f"out-{size}/training_seg.json").read_text(encoding="utf-8"))
        assert record["settings"]["input_size"] == (size if size == "native" else [64, 64])
    assert "image_encoder.merges.0.expand.conv.weight" in load_checkpoint("run/model.pt")
    capsys.readouterr()

    assert main(["segment", "training.png", "out", "--modality", "xray", "--input_size", "x"]) != 0
    assert "input_size must be native, or a list of 2 numbers; got 'x'" in capsys.readouterr().err
