"""A folder through the command, as a user runs it, and what became of each item."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from esp_medsam.modality import ModalityTable
from tests.support.networks import save_random_weights
from tests.support.processes import COMMAND, run_python


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
def random_weights(tmp_path_factory: pytest.TempPathFactory, table: ModalityTable) -> Path:
    """Weights of the product's network, drawn at random: what they find does not matter here."""
    return save_random_weights(tmp_path_factory.mktemp("weights") / "model.pt", table)


@pytest.fixture(scope="session")
def segmented(tmp_path_factory: pytest.TempPathFactory, random_weights: Path) -> Callable[..., Ran]:
    """Return a function that runs ``esp-medsam segment`` on a folder, with random weights."""
    small = tmp_path_factory.mktemp("config") / "small.yaml"
    small.write_text("input_size: [64, 64]\n")

    def run(folder: Path, *options: str) -> Ran:
        out = tmp_path_factory.mktemp("out")
        given = ["--config", str(small), "--ckpt_path", str(random_weights)]
        done = run_python(COMMAND, "segment", str(folder), str(out), *options, *given)
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
