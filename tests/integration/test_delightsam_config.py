"""Converted official weights run through the bundle with its overlay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from esp_medsam.cli.main import main
from esp_medsam.networks import build_released
from esp_medsam.networks.checkpoints import to_delightsam
from esp_medsam.workflows.pipeline import build_run, read_config
from esp_medsam.workflows.request import read_request
from esp_medsam.workflows.results import ItemResult


BUNDLE = Path(__file__).parents[2] / "bundle"
OVERLAY = BUNDLE / "configs" / "delightsam.yaml"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(to_delightsam(build_released("fundus"), "fundus"), folder / "official.pth")
    arguments = [str(folder / "official.pth"), str(folder / "fundus.pt")]
    assert main(["convert", "--from", "delightsam", "--modality", "fundus", *arguments]) == 0
    return folder / "fundus.pt"


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 70, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    PIL.Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    return tmp_path / "in"


@pytest.fixture
def segment(converted: Path, photograph: Path, tmp_path: Path) -> Callable[[str], ItemResult]:
    """Return a function that segments the photograph as one of a modality."""

    def run(modality: str) -> ItemResult:
        segmentation = build_run(
            BUNDLE,
            [OVERLAY],
            dataset_dir=str(photograph),
            output_dir=str(tmp_path / "out"),
            modality=modality,
            ckpt_path=str(converted),
            input_size=[64, 64],
            device="cpu",
        )
        (result,) = segmentation.results()
        return result

    return run


class TestOverlay:
    def test_input_is_the_released_codes(self) -> None:
        parser = read_config(read_request(BUNDLE, [OVERLAY]))

        mean = [255 * value for value in parser["pixel_mean"]]
        assert mean == pytest.approx([123.675, 116.28, 103.53])
        assert parser["pixel_std"] == parser["pixel_mean"]
        assert parser["resize"] == "stretch"
        assert parser["input_size"] == [1024, 1024]

    def test_segments_the_modality_that_the_checkpoint_holds(
        self, segment: Callable[[str], ItemResult], tmp_path: Path
    ) -> None:
        assert segment("fundus").status == "done"

        with PIL.Image.open(tmp_path / "out" / "a_seg.png") as mask:
            assert mask.size == (70, 40)

    def test_refuses_another_modality_than_the_checkpoint_holds(
        self, segment: Callable[[str], ItemResult]
    ) -> None:
        result = segment("xray")

        assert result.status == "failed"
        assert "E_MODALITY" in str(result)
        assert "fundus" in str(result)
