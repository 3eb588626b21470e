"""Real images, a few minutes: ten are learned by heart, and twenty add a target."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esp_medsam.cli.main import main


pytestmark = pytest.mark.slow

LESION = """category: {value: "49755003", scheme: SCT, meaning: Morphologically Abnormal Structure}
        type: {value: "52988006", scheme: SCT, meaning: Lesion}"""
HEART = """category: {value: "91723000", scheme: SCT, meaning: Anatomical Structure}
        type: {value: "80891009", scheme: SCT, meaning: Heart}"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(manifest: Path, **wanted: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a manifest, of the split train alone."""
    with manifest.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if all(row[key] == value for key, value in {**wanted, "split": "train"}.items()):
                yield row


def write_datalist(items: list[dict[str, Any]], learned: int) -> None:
    sections = {"training": items[:learned], "validation": items[learned:]}
    Path("datalist.json").write_text(json.dumps(sections))


def dice(*options: str) -> float:
    arguments = ["evaluate", "datalist.json", "--summary", "scores.json", *options]
    assert main(arguments) == 0
    (score,) = json.loads(Path("scores.json").read_text())["scores"]
    found: float = score["dice"]
    return found


def test_ten_images_are_overfitted_to_a_dice_of_095(shared: Path) -> None:
    """From random weights, which never saw these images: 100 steps, two minutes of a core."""
    chosen = list(rows(shared / "data2d" / "manifest.csv", modality="dermoscopy"))[:11]
    write_datalist(
        [
            {
                "image": str(shared / "data2d" / row["image"]),
                "modality": "dermoscopy",
                "labels": {"mole": str(shared / "data2d" / row["mask"])},
            }
            for row in chosen
        ],
        10,
    )
    Path("targets.yaml").write_text(
        "modalities:\n  dermoscopy:\n    index: 0\n    targets:\n      mole:\n"
        f"        label: 1\n        {LESION}\n        color: [230, 120, 50]\n"
    )
    Path("small.yaml").write_text("input_size: [160, 160]\n")
    Path("short.yaml").write_text(
        "samples_per_epoch: 100\nbatch_size: 10\nepochs: 10\nval_interval: 10\naverage_decay: 0.9\n"
    )
    assert main(["new-bundle", "mine", "--targets", "targets.yaml"]) == 0
    options = ["--bundle", "mine", "--config", "small.yaml"]

    assert main(["train", "datalist.json", "run", *options, "--config", "short.yaml"]) == 0

    last = ["--ckpt_path", "run/model_last.pt"]
    assert dice("--section", "training", *last, *options) > 0.95


def test_hearts_are_added_to_radiographs_from_twenty_images(shared: Path) -> None:
    """A target of an old modality, a hundred steps: three to six minutes of two cores."""
    manifest = shared / "more2d" / "manifest.csv"
    chosen = list(rows(manifest, dataset="JSRT_chest_xray"))
    write_datalist(
        [
            {
                "image": str(manifest.parent / row["image"]),
                "modality": "xray",
                "dataset": "JSRT",
                "labels": {"heart": {"path": str(manifest.parent / row["mask"]), "values": [3]}},
            }
            for row in [*chosen[:20], *chosen[100:105]]
        ],
        20,
    )
    Path("additions.yaml").write_text(
        f"modalities:\n  xray:\n    targets:\n      heart:\n        {HEART}\n"
    )
    targets = ["--targets", "additions.yaml"]

    assert main(["add-target", "datalist.json", "grown", *targets, "--epochs", "4"]) == 0

    grown = ["--bundle", "grown", "--targets", "heart"]
    assert dice("--section", "validation", *grown) > 0.5
