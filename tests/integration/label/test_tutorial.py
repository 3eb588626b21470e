"""The tutorial on annotation, block by block, on MONAI Label's released server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.support.label_server import LabelServer, skip_without_environment


PAGE = Path(__file__).parents[3] / "docs" / "tutorials" / "first-corrected-label.md"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LabelServer]:
    skip_without_environment()
    (tmp_path / "studies").mkdir()
    server = LabelServer(tmp_path / "app", str(tmp_path / "studies"), "--modality", "fundus")
    yield server
    server.kill()


def test_does_what_it_says(
    server: LabelServer, tmp_path: Path, blocks_of: Callable[..., Any]
) -> None:
    blocks = [
        (block.language, block.content)
        for block in blocks_of("docs/tutorials/first-corrected-label.md")
        if block.language in ("bash", "python")
    ]
    here = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    told = []
    for number, (language, text) in enumerate(blocks):
        command = text.replace("http://127.0.0.1:8000", server.url).replace("mkdir studies\n", "")
        run = [sys.executable, "-c"] if language == "python" else ["bash", "-euo", "pipefail", "-c"]
        ran = subprocess.run(
            [*run, command], cwd=tmp_path, env=here, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        told.append(ran.stdout)
        if number == 0:
            server.start()

    saved, refused, trained = told[-3:]
    assert '{"image":"retina","label":"retina"}' in saved
    assert '"label_tags":{"original":1,"final":1}' in saved
    shown = re.findall(r'^\{"detail".*\}$', PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [json.loads(refused), json.loads(trained)] == [json.loads(line) for line in shown]
    before, after = (
        np.asarray(PIL.Image.open(tmp_path / name)) for name in ("mask.png", "corrected.png")
    )
    assert (before != after).sum() > 1000  # there was something to correct
    assert (after != 0).sum() > 150_000
    final = np.asarray(PIL.Image.open(tmp_path / "studies" / "labels" / "final" / "retina.png"))
    np.testing.assert_array_equal(final, after)
