from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import ConfigWorkflow
from PIL import Image as PILImage

from esp_medsam.workflows.case_score import read_cases


CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"


class TestEvaluateConfig:
    def test_scores_what_can_be_read_and_ends_with_what_cannot(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        mask = np.zeros((48, 64), np.uint8)
        mask[10:30, 20:40] = 255
        PILImage.fromarray(mask).save(tmp_path / "m.png")
        PILImage.fromarray(mask // 2 + 60).save(tmp_path / "a.png")
        items = [
            {"image": name, "modality": "xray", "labels": {"lungs": "m.png"}}
            for name in ("none.png", "a.png")
        ]
        (tmp_path / "d.json").write_text(json.dumps({"test": items}))
        evaluating = ConfigWorkflow(
            config_file=[str(CONFIGS / "inference.yaml"), str(CONFIGS / "evaluate.yaml")],
            meta_file=str(CONFIGS / "metadata.json"),
            logging_file=False,
            workflow_type="infer",
            bundle_root=str(CONFIGS.parent),
            datalist=str(tmp_path / "d.json"),
            output_dir=str(tmp_path / "out"),
            cases=str(tmp_path / "cases.csv"),
            input_size=[64, 64],
            tolerance="3",
            device="cpu",
        )

        with caplog.at_level(logging.INFO, logger="esp_medsam"):
            evaluating.initialize()
            with pytest.raises(SystemExit, match="1 of 2 items failed"):
                evaluating.run()

        (case,) = read_cases(tmp_path / "cases.csv")
        assert (case.image, case.true_voxels, case.tolerance) == ("a.png", 400, 3.0)
        assert "Dice (95 %)" in caplog.text
        assert "2 of 2: done a.png" in caplog.text
