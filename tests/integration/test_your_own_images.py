"""The tutorial on one's own images, from its page: each block, in order, on tiny pictures."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from monai.bundle import ConfigWorkflow

from esp_medsam.cli.main import main
from esp_medsam.workflows.bundle import find_bundle


SMALL = {
    "input_size": [64, 64],
    "epochs": 1,
    "samples_per_epoch": 2,
    "batch_size": 2,
    "warmup_steps": 1,
    "device": "cpu",
}
"""What makes training small enough for a test."""


def train(arguments: list[str]) -> None:
    """Run here what ``python -m monai.bundle run`` would, on fewer and smaller slices."""
    given = {
        name.removeprefix("--"): value
        for name, value in zip(arguments[::2], arguments[1::2], strict=True)
    }
    assert given["epochs"] == "20"
    workflow = ConfigWorkflow(
        config_file=given.pop("config_file"),
        meta_file=None,
        logging_file=False,
        workflow_type="train",
        **{**given, **SMALL},
    )
    workflow.initialize()
    workflow.run()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with thirty pictures and masks, and one that nobody outlined."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ("pictures", "masks", "new"):
        (tmp_path / folder).mkdir()
    for number in range(30):
        pixels, mask = rng.integers(150, 200, (40, 56, 3), np.uint8), np.zeros((40, 56), np.uint8)
        top, left = (int(place) for place in rng.integers(2, 20, 2))
        mask[top : top + 15, left : left + 15] = 255
        pixels[mask > 0] //= 3
        PIL.Image.fromarray(pixels).save(tmp_path / f"pictures/{number:02}.png")
        PIL.Image.fromarray(mask).save(tmp_path / f"masks/{number:02}.png")
    PIL.Image.fromarray(pixels).save(tmp_path / "new/a.png")
    (tmp_path / "small.yaml").write_text("input_size: [64, 64]\ndevice: cpu\n")
    return tmp_path


def run(line: str) -> None:
    """Run a line of a shell block; what segments does so at the size that was trained."""
    if line.startswith("SHIPPED="):  # said by its value below
        assert "find_bundle()" in line
        return
    program, *arguments = shlex.split(line.replace("$SHIPPED", str(find_bundle())))
    if program == "python":
        assert arguments[:3] == ["-m", "monai.bundle", "run"]
        train(arguments[3:])
        return
    assert program == "esp-medsam"
    small = ["--config", "small.yaml"] if arguments[0] in ("evaluate", "segment", "inspect") else []
    assert main([*arguments, *small]) == 0, line


class TestPage:
    def test_leads_from_pictures_and_masks_to_masks_of_a_bundle_s_own(
        self, home: Path, blocks_of: Callable[[str], Any]
    ) -> None:
        for block in blocks_of("docs/tutorials/your-own-images.md"):
            if block.language == "yaml":
                Path("targets.yaml").write_text(block.content)
            else:
                for line in block.content.splitlines():
                    run(line)

        with Path("cases.csv").open(newline="") as file:
            assert [row["target"] for row in csv.DictReader(file)] == ["mole"] * 5
        record = json.loads(Path("out/a_seg.json").read_text())
        metadata = json.loads(Path("mine/configs/metadata.json").read_text())
        (entry,) = metadata["weights"].values()
        assert [target["name"] for target in record["targets"]] == ["mole"]
        assert record["weights_sha256"] == entry["sha256"]
        assert list(entry["self_check"]) == ["dermoscopy"]
        assert Path("out/a_seg.png").is_file()
        assert Path("out/a_seg_preview.png").is_file()
