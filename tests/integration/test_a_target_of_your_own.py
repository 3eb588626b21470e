"""The how-to of a target added to the shipped ones, from its page: each block, in order."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from esp_medsam.cli.main import main


DONE = ("pip install scikit-image", "python coins.py")
"""Lines that set up what is here: scikit-image is installed, and the block of Python has run."""


@pytest.mark.slow
def test_the_page_adds_coins_to_the_shipped_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks_of: Callable[[str], Any]
) -> None:
    """Three epochs in place of the default; a minute or two on two cores."""
    monkeypatch.chdir(tmp_path)
    for block in blocks_of("docs/how-to/a-target-of-your-own.md"):
        if block.language == "python":
            subprocess.run([sys.executable, "-c", block.content], check=True)
        elif block.language == "yaml":
            Path("additions.yaml").write_text(block.content)
        for line in block.content.splitlines() if block.language == "shell" else ():
            if line in DONE:
                continue
            program, *arguments = shlex.split(line)
            assert program == "esp-medsam", line
            short = ["--epochs", "3"] if arguments[0] == "add-target" else []
            assert main([*arguments, *short]) == 0, line

    card = Path("grown/docs/README.md").read_text(encoding="utf-8")
    (row,) = [line for line in card.splitlines() if line.startswith("| photo | coin |")]
    assert float(row.split("|")[6]) > 0.9, row
    found = np.asarray(PIL.Image.open("out/0_280_seg.png")) > 0
    truth = np.asarray(PIL.Image.open("coins/0_280_mask.png")) > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9
