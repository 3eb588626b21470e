"""Images whose masks failed in a report come first on MONAI Label's released server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.label_server import LabelServer
from tests.support.label_studies import options


def test_images_whose_masks_failed_are_offered_first(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    verdicts = tmp_path_factory.mktemp("verdicts") / "verdicts.csv"
    verdicts.write_text("item,verdict\nRAS.nii.gz,pass\ngone.png,fail\nPIR.nii.gz,fail\n")
    own = ["--verdicts", str(verdicts), *options(home)]
    server = LabelServer(home / "judged", str(home / "studies"), *own)
    server.start()
    try:
        strategies = server.get("/info/").json()["strategies"]
        assert list(strategies) == ["failed", "random", "uncertain"]
        answers = [server.ask("POST", "/activelearning/failed", json={}).json() for _ in range(2)]
        assert [answer["id"] for answer in answers] == ["PIR", "PIR"]
    finally:
        server.kill()
