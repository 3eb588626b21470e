from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image as PILImage
from torch import Tensor, nn

from esp_medsam.modality import ModalityTable
from esp_medsam.networks import Prediction
from esp_medsam.workflows.datalist import Item
from esp_medsam.workflows.kept_slices import InMemory
from esp_medsam.workflows.set_scores import SliceScore
from esp_medsam.workflows.train import (
    DrawSamples,
    History,
    SetScores,
    SlicePictures,
    TrainingPage,
)
from esp_medsam.workflows.training_data import SliceDataset
from esp_medsam.workflows.training_page import HEIGHT, WIDTH, chart
from esp_medsam.workflows.training_slices import TrainingSlice


class FindsTheLeftHalf(nn.Module):
    def forward(self, image: Tensor, modality: Tensor) -> Prediction:
        logits = torch.full((len(image), 6, 8, 8), -1.0)
        logits[..., :4] = 1.0
        return Prediction(logits, logits, logits, logits[:, :0, 0, 0])


@pytest.fixture
def pictures(table: ModalityTable) -> SlicePictures:
    """Two radiographs, the second of which holds lungs: its upper half."""
    pieces = []
    for holds in (False, True):
        label = torch.zeros(1, 32, 32, dtype=torch.uint8)
        label[:, :16] = holds
        pieces.append(
            TrainingSlice(
                image=torch.full((1, 32, 32), 128, dtype=torch.uint8),
                label=label,
                known=torch.tensor([True]),
                unlabeled=torch.zeros(1, 32, 32, dtype=torch.uint8),
                modality="xray",
                dataset="<set>",
            )
        )
    kept = InMemory()
    item = Item(image="chest.dcm", modality="xray", labels={}, dataset="<set>")
    kept.add("key", item, pieces, lambda key, count, filled: range(count))
    normal: dict[str, Any] = {"pixel_mean": [0.5] * 3, "pixel_std": [0.25] * 3}
    data = SliceDataset(kept, table=table, input_size=(32, 32), random=False, **normal)
    return SlicePictures(data, FindsTheLeftHalf(), table, device="cpu", **normal)


class TestSlicePictures:
    def test_show_the_truth_on_the_left_and_what_is_found_on_the_right(
        self, pictures: SlicePictures
    ) -> None:
        drawn = np.asarray(pictures.draw(1)).astype(int)

        assert drawn.shape == (32, 64, 3)
        plain = (drawn == 128).all(-1)
        truth, found = plain[:, :32], plain[:, 32:]
        assert not truth[15].any()  # contours, on and within the edge
        assert truth[20:].all()
        assert not found[:, 15].any()
        assert found[:, 20:].all()

    def test_samples_are_of_each_modality_one_that_holds_a_target(
        self, pictures: SlicePictures
    ) -> None:
        assert pictures.samples() == {"xray": 1}

    def test_are_written_after_each_epoch(self, pictures: SlicePictures, tmp_path: Path) -> None:
        engine = Engine(lambda *_: None)
        DrawSamples(pictures, tmp_path / "overlays").attach(engine)

        engine.run([0], max_epochs=2)

        for name in ("xray-0001.png", "xray-0002.png"):
            with PILImage.open(tmp_path / "overlays" / name) as written:
                assert written.size == (64, 32)


class TestChart:
    def test_spans_the_epochs_and_leaves_out_what_was_not_validated(self) -> None:
        drawn = chart("Dice", {"ct": [0.0, None, 1.0], "mri": [None, None, None]}, 1.0)

        (line,) = drawn.lines
        assert line.points == f"0.0,{HEIGHT}.0 {WIDTH}.0,0.0"
        assert line.last == 1.0

    def test_of_one_epoch_is_a_point(self) -> None:
        assert chart("Loss", {"training": [2.0]}, None).lines[0].points == "0.0,0.0"


class TestTrainingPage:
    def page(self, pictures: SlicePictures, path: Path, scores: list[SliceScore]) -> str:
        engine = Engine(lambda *_: None)
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
        history = History(engine, optimizer)
        record = {"epoch": 1, "steps": 2, "loss": 0.5, "skipped": 3, "learning_rate": 0.5}
        history.epochs = [{**record, "metrics": {"dice_xray": 0.25}}]
        found = SetScores(pictures.table, lambda pair: pair)
        found.scores = scores
        told = {"seed": "<b>0</b>"}
        TrainingPage(path, history=history, scores=found, pictures=pictures, settings=told).write()
        return path.read_text(encoding="utf-8")

    def test_holds_curves_sets_and_the_worst_slices(
        self, pictures: SlicePictures, tmp_path: Path
    ) -> None:
        scores = [SliceScore(0, "<set>", "xray", 0.75), SliceScore(1, "<set>", "xray", 0.25)]

        text = self.page(pictures, tmp_path / "training.html", scores)

        assert text.count("<svg") == 2
        assert "3 steps were skipped" in text
        assert text.index("Dice 0.250") < text.index("Dice 0.750")
        assert text.count("data:image/png;base64,") == 2
        assert text.index("chest.dcm, slice 1") < text.index("chest.dcm, slice 0")
        assert "<td>&lt;set&gt;</td>" in text  # names of sets are the user's
        assert "&lt;b&gt;0" in text

    def test_says_so_where_nothing_was_scored(
        self, pictures: SlicePictures, tmp_path: Path
    ) -> None:
        text = self.page(pictures, tmp_path / "training.html", [])

        assert "No validation slice holds a target" in text
        assert "base64" not in text
