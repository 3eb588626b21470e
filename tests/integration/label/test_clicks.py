"""Clicks on the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.label_server import LabelServer, agreement, labelmap
from tests.support.label_studies import CANARY, options


@pytest.fixture(scope="module")
def clicked(home: Path) -> Iterator[LabelServer]:
    """A server that offers clicks."""
    own = ["--clicks", "--modality", "mri", "--modality", "fundus"]
    server = LabelServer(home / "clicked", str(home / "studies"), *own, *options(home))
    server.start()
    yield server
    server.kill()


class TestClicks:
    def test_are_offered_as_models_of_their_own(self, clicked: LabelServer) -> None:
        models = clicked.get("/info/").json()["models"]

        assert list(models) == ["mri", "fundus", "mri_clicks", "fundus_clicks"]
        assert (models["mri_clicks"]["type"], models["mri_clicks"]["dimension"]) == ("deepgrow", 2)

    @pytest.mark.parametrize("name", ["RAS", "LPS"])
    def test_segment_the_slice_that_they_lie_in(
        self, clicked: LabelServer, tmp_path: Path, expected: Any, name: str
    ) -> None:
        value = 2  # left ventricle
        inside = np.argwhere(expected[name][:, :, 1] == value)
        point = [int(n) for n in np.median(inside, axis=0)]
        sent = {
            "label": "left_ventricle",
            "foreground": [[*point, 1]],
            "background": [],
            "slice": 1,
        }

        answer = clicked.infer("mri_clicks", name, data={"params": json.dumps(sent)})

        mask = labelmap(answer, tmp_path)
        assert mask.shape == expected[name].shape
        assert not mask[:, :, [0, 2]].any()
        both = np.logical_and(mask[:, :, 1], expected[name][:, :, 1] == value).sum()
        assert 2 * both / (mask[:, :, 1].sum() + len(inside)) > 0.9

    def test_of_a_picture_count_columns_first(
        self, clicked: LabelServer, tmp_path: Path, expected: Any
    ) -> None:
        rows, columns = np.nonzero(expected["eye"])
        sent = {"label": "vessels", "foreground": [[int(columns[9]), int(rows[9]), 0]]}

        answer = clicked.infer("fundus_clicks", f"{CANARY}_eye", data={"params": json.dumps(sent)})

        mask = labelmap(answer, tmp_path, ".png")
        assert agreement(mask, expected["eye"]) > 0.95

    @pytest.mark.parametrize(
        ("sent", "said"),
        [
            (
                {"label": "liver", "foreground": [[1, 1, 1]]},
                "E_TARGET: label must be one of glioma",
            ),
            ({"label": "glioma"}, "E_OPTION: foreground, background and roi"),
            ({"label": "glioma", "foreground": [[99, 1, 1]]}, "E_OPTION: A click must lie in"),
        ],
    )
    def test_that_cannot_be_used_are_refused(
        self, clicked: LabelServer, sent: dict[str, Any], said: str
    ) -> None:
        answer = clicked.infer("mri_clicks", "RAS", data={"params": json.dumps(sent)})

        assert answer.status_code == 422
        assert answer.json()["detail"].startswith(said)
