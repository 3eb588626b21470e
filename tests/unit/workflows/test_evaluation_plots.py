from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from esp_medsam.workflows.case_score import TargetScore
from esp_medsam.workflows.evaluation_plots import write_plots
from esp_medsam.workflows.evaluation_summary import summarize


pytest.importorskip("matplotlib", reason="needs the extra report")


@pytest.fixture
def cases() -> list[TargetScore]:
    rng = np.random.default_rng(0)
    return [
        TargetScore(
            dataset="a set & <more> of $x$",
            modality="mri",
            target=target,
            image=str(number),
            present=True,
            dice=float(dice),
            iou=0.5,
            voxels=5,
            true_voxels=5,
            precision=float(dice),
            confidence=float((1 + dice) / 2),
        )
        for target in ("glioma", "left_ventricle", "myocardium", "right_ventricle")
        for number, dice in enumerate(rng.beta(8, 2, 30))
    ]


class TestWritePlots:
    @pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
    def test_draws_each_once(
        self, cases: list[TargetScore], tmp_path: Path, kind: str, start: bytes
    ) -> None:
        written = write_plots(tmp_path, kind, cases, summarize(cases, resamples=100))

        assert [path.name for path in written] == [
            f"{name}.{kind}" for name in ("dice", "risk_coverage", "reliability")
        ]
        assert all(path.read_bytes().startswith(start) for path in written)

    def test_draws_nothing_of_nothing(self, cases: list[TargetScore], tmp_path: Path) -> None:
        absent = [
            case._replace(present=False, precision=None, confidence=None) for case in cases[:3]
        ]

        assert write_plots(tmp_path, "png", absent, summarize(absent, resamples=100)) == []
