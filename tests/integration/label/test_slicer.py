"""What the module for 3D Slicer shows and sends, by MONAI Label's client library."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from esp_medsam.integrations.monai_label.environment import default_environment, python_of
from tests.support.label_server import LabelServer
from tests.support.label_studies import CANARY


_nib: Any = nibabel


class TestSlicer:
    """With the client library of the module for 3D Slicer."""

    @pytest.mark.parametrize(
        ("model", "image", "slices"),
        [("mri", "LPS", 3), ("mri", "RAS", 3), ("fundus", f"{CANARY}_eye", 1)],
    )
    def test_segments_have_their_own_names_and_a_correction_is_kept(
        self, server: LabelServer, tmp_path: Path, model: str, image: str, slices: int
    ) -> None:
        """Of MRI, the targets that are ready have the values 2 to 4."""
        script = Path(__file__).parents[2] / "support" / "slicer_client.py"
        python = python_of(default_environment())
        ran = subprocess.run(
            [str(python), str(script), server.url, model, image, str(tmp_path)],
            capture_output=True,
            check=False,
            text=True,
        )

        assert ran.returncode == 0, ran.stderr
        told = json.loads(ran.stdout.splitlines()[-1])
        nothing = dict.fromkeys(told["labels"], 0)
        assert told["shown"] == nothing | told["found"]
        assert all(told["found"].values())
        assert told["drawn"] == 4 * 5 * slices
        assert told["saved"]["label"] == image

    @pytest.mark.parametrize(
        ("params", "said"),
        [
            ({"label_info": [{"name": "lever", "idx": 1}]}, "E_TARGET: label_info must be one of"),
            ({"label_info": [{"name": "glioma", "idx": 9}]}, "E_OPTION: label must only hold"),
        ],
    )
    def test_a_label_that_is_not_clear_is_refused(
        self, server: LabelServer, home: Path, params: dict[str, Any], said: str
    ) -> None:
        values = np.ones((64, 56, 3), np.uint8)
        affine = _nib.load(home / "studies" / "LPS.nii.gz").affine
        _nib.save(_nib.Nifti1Image(values, affine), home / "wrong.nii.gz")
        with (home / "wrong.nii.gz").open("rb") as label:
            answer = server.ask(
                "PUT",
                "/datastore/label?image=LPS&tag=final",
                files={"label": ("label.nii.gz", label)},
                data={"params": json.dumps({"model": "mri", **params})},
            )

        assert answer.status_code == 422
        assert answer.json()["detail"].startswith(said)
