from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from esp_medsam.errors import CheckpointError
from esp_medsam.inferers.calibration import (
    Calibration,
    calibration_path,
    read_calibration,
    write_calibration,
)
from esp_medsam.inferers.plausibility import Plausibility


SHOWN = {"input_size": "448, 448", "resize": "fit", "transforms": "{}"}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def written(weights: Path) -> Calibration:
    torch.manual_seed(0)
    centers = {"ct": torch.randn(2, 3), "mri": torch.randn(1, 3)}
    known = Plausibility(torch.randn(8, 3), centers, 12.345678)
    calibration = Calibration(known, {"ct": {"liver": [(0.6, 0.1), (0.8, 0.5), (0.9, 0.95)]}})
    assert write_calibration(weights, calibration, SHOWN) == calibration_path(weights)
    return calibration


class TestReadCalibration:
    def test_gives_back_what_was_written(self, weights: Path, written: Calibration) -> None:
        read = read_calibration(weights, SHOWN)

        assert read is not None
        ours, theirs = read.plausibility, written.plausibility
        torch.testing.assert_close(ours.projection, theirs.projection, rtol=1e-5, atol=1e-6)
        assert ours.centers.keys() == theirs.centers.keys()
        for name, centers in theirs.centers.items():
            torch.testing.assert_close(ours.centers[name], centers, rtol=1e-5, atol=1e-6)
        assert ours.limit == pytest.approx(theirs.limit, rel=1e-5)
        assert read.expected_dice("ct", "liver", 0.85) == pytest.approx(0.725)

    def test_is_nothing_where_nothing_was_measured(self, weights: Path) -> None:
        assert read_calibration(weights, SHOWN) is None
        assert read_calibration(weights.with_name("not_there.pt"), SHOWN) is None

    def test_of_other_weights_is_not_used_and_told(
        self, weights: Path, written: Calibration, caplog: pytest.LogCaptureFixture
    ) -> None:
        weights.write_bytes(b"weights trained further")

        assert read_calibration(weights, SHOWN) is None
        assert "was made for other weights than" in caplog.text

    def test_measured_with_another_input_is_not_used_and_told(
        self, weights: Path, written: Calibration, caplog: pytest.LogCaptureFixture
    ) -> None:
        other = {**SHOWN, "input_size": "224, 224"}

        assert read_calibration(weights, other) is None
        assert "was measured with another input_size and is not used" in caplog.text

    @pytest.mark.parametrize(
        "change",
        [
            lambda content: content.pop("plausibility"),
            lambda content: content.update(schema=2),
            lambda content: content["plausibility"].update(limit=0),
            lambda content: content["plausibility"].update(limit=float("nan")),
            lambda content: content["plausibility"].update(limit="near"),
            lambda content: content["plausibility"]["centers"].update(ct=[[1.0]]),
            lambda content: content["plausibility"]["projection"].append([1.0, 2.0]),
            lambda content: content["plausibility"].update(projection=[]),
            lambda content: content["confidence"]["ct"].update(liver=[[0.6, 0.5], [0.7, 0.4]]),
            lambda content: content["confidence"]["ct"].update(liver=[[0.6, 0.4], [0.6, 0.5]]),
            lambda content: content["confidence"]["ct"].update(liver=[[0.6, 1.4]]),
            lambda content: content["confidence"]["ct"].update(liver=[]),
            lambda content: content.update(more=1),
        ],
    )
    def test_refuses_what_is_not_so(
        self, weights: Path, written: Calibration, change: Callable[[dict[str, Any]], object]
    ) -> None:
        path = calibration_path(weights)
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

        with pytest.raises(CheckpointError, match=r"model\.calibration\.json must be what esp-m"):
            read_calibration(weights, SHOWN)

    def test_refuses_what_is_no_json(self, weights: Path) -> None:
        calibration_path(weights).write_bytes(b"\x00")

        with pytest.raises(
            CheckpointError, match=r"model\.calibration\.json must .* line 1, column 1"
        ):
            read_calibration(weights, SHOWN)


class TestExpectedDice:
    @pytest.mark.parametrize(
        ("confidence", "dice"), [(0.5, 0.1), (0.6, 0.1), (0.7, 0.3), (0.9, 0.95), (1.0, 0.95)]
    )
    def test_lies_on_the_curve_and_beyond_it_at_its_ends(
        self, written: Calibration, confidence: float, dice: float
    ) -> None:
        assert written.expected_dice("ct", "liver", confidence) == pytest.approx(dice)

    def test_is_not_known_of_what_was_not_measured_or_not_found(self, written: Calibration) -> None:
        assert written.expected_dice("ct", "liver", None) is None
        assert written.expected_dice("ct", "kidney", 0.9) is None
        assert written.expected_dice("mri", "liver", 0.9) is None
