"""A folder through the command, as a user runs it, and what became of each item."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from esp_medsam.modality import ModalityTable
from esp_medsam.networks.builders import build_product


ROOT = Path(__file__).parents[2]


class Ran(NamedTuple):
    """What a run of the command came to.

    Attributes:
        status: Its exit status.
        text: All that it printed.
        failed: Of each item that failed, by its path below the input: code and message.
        warned: Of each item, by its path below the input, what was told of it.
        out: The folder that it wrote to.
    """

    status: int
    text: str
    failed: dict[str, tuple[str, str]]
    warned: dict[str, str]
    out: Path

    def outcome(self, item: str) -> tuple[str, str]:
        """Return ``done`` and its warnings, or a code and its message, of a file or a folder."""
        for path, (code, message) in self.failed.items():
            if path == item or path.startswith((f"{item}/", f"{item} ")):
                return code, message
        told = " ".join(text for path, text in self.warned.items() if path.startswith(item))
        stem = re.sub(r"\.(nii\.gz|[a-z]+)$", "", item)
        records = [*self.out.glob(f"{stem}_seg.json"), *self.out.glob(f"{item}/**/*_seg.json")]
        return ("done" if records else "left alone"), told


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the product's network, drawn at random: what they find does not matter here."""
    torch.manual_seed(0)
    table = ModalityTable.read(ROOT / "bundle/configs/targets.yaml")
    network = build_product(table.indices, table.target_names)
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(network.half().state_dict(), path)
    return path


@pytest.fixture(scope="session")
def segmented(tmp_path_factory: pytest.TempPathFactory, random_weights: Path) -> Callable[..., Ran]:
    """Return a function that runs ``esp-medsam segment`` on a folder, with random weights."""
    small = tmp_path_factory.mktemp("config") / "small.yaml"
    small.write_text("input_size: [64, 64]\n")

    def run(folder: Path, *options: str) -> Ran:
        out = tmp_path_factory.mktemp("out")
        start = "from esp_medsam.cli.main import main; raise SystemExit(main())"
        command = [sys.executable, "-c", start, "segment", str(folder), str(out), *options]
        command += ["--config", str(small), "--ckpt_path", str(random_weights)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        text = done.stdout + done.stderr
        rows = re.findall(
            rf"^  (E_\w+) +{re.escape(str(folder))}/(.*?)  +(.*)$", text, re.MULTILINE
        )
        warned: dict[str, str] = {}
        for path, told in re.findall(
            rf"^{re.escape(str(folder))}/(.*?): (.*)$", text, re.MULTILINE
        ):
            warned[path] = f"{warned.get(path, '')} {told}".strip()
        failed = {path: (code, message) for code, path, message in rows}
        return Ran(done.returncode, text, failed, warned, out)

    return run
