"""A run that is killed at any moment goes on where it stopped, as if nothing had happened."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.support.nifti import save_nifti


pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ITEMS, KILLS = 60, 20

CHILD = """
import os, sys, time
import torch
from esp_medsam.workflows.pipeline import build_run
from esp_medsam.modality import ModalityTable
from tests.support.networks import BrightIsForeground

class Slow(BrightIsForeground):
    def encode(self, image, modality):
        time.sleep(0.02)
        return super().encode(image, modality)

folder, bundle, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
fsync = os.fsync

def slow(descriptor):  # so that many a kill meets a file that is half there
    time.sleep(pause)
    fsync(descriptor)

os.fsync = slow
torch.set_num_threads(1)
table = ModalityTable.read(f"{bundle}/configs/targets.yaml")
segmentation = build_run(
    bundle, dataset_dir=f"{folder}/in", output_dir=f"{folder}/out", modality="ct",
    ckpt_path=f"{folder}/weights.pt", network=Slow(table), device="cpu",
    input_size=[32, 32], pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3, targets=["liver", "kidney"],
    split_targets=True, preview=True, ct_input="windowed", output_format="nifti",
)
print("begins", flush=True)
for result in segmentation.results():
    os.write(1, f"{result.status} {result.path} {result.code}\\n".encode())
print("ends", flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the weights, and in ``in`` small inputs of two kinds."""
    random_numbers = np.random.default_rng(0)
    for number in range(ITEMS):
        place = tmp_path / "in" / ("", "x", "x/y")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        values = random_numbers.integers(0, 255, (20, 24, 3), np.uint8)
        if number % 2:
            save_nifti(place / f"{number}.nii.gz", values)
        else:
            PIL.Image.fromarray(values).save(place / f"{number}.png")
    (tmp_path / "weights.pt").write_bytes(b"weights")
    return tmp_path


def begin(folder: Path, pause: float = 0.0) -> subprocess.Popen[str]:
    """Start a run and wait until it works."""
    run = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(ROOT / "bundle"), str(pause)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "begins\n"
    return run


def states(folder: Path) -> dict[str, tuple[int, int]]:
    """What tells a record from one that was written anew."""
    found = {}
    for path in (folder / "out").rglob("*_seg.json"):
        status = path.stat()
        found[str(path.relative_to(folder / "out"))] = (status.st_ino, status.st_mtime_ns)
    return found


def outputs(out: Path) -> dict[str, Any]:
    """All files, by their hashes; of records what they say but the times."""
    found: dict[str, Any] = {}
    for path in out.rglob("*"):
        if path.is_file() and path.suffix == ".json":
            record = json.loads(path.read_text())
            for file in record["files"]:
                del file["modified_ns"]
            found[str(path.relative_to(out))] = record
        elif path.is_file():
            found[str(path.relative_to(out))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


class TestKilledRuns:
    def test_f1_l1_end_as_an_uninterrupted_one_with_every_item_done_once(
        self, folder: Path
    ) -> None:
        whole = begin(folder)
        told, _ = whole.communicate()
        assert told.count("done ") == ITEMS
        assert told.endswith("ends\n")
        expected = outputs(folder / "out")
        shutil.rmtree(folder / "out")
        moments = random.Random(0)
        left_half = 0

        for _ in range(KILLS):
            before = states(folder)
            run = begin(folder, pause=0.04)
            time.sleep(moments.uniform(0.0, 1.2))
            run.send_signal(signal.SIGKILL)
            told, _ = run.communicate()
            assert "failed" not in told
            assert before.items() <= states(folder).items()  # what was done was not done again
            left_half += len(list((folder / "out").rglob(".esp-medsam-*.tmp")))
        before = states(folder)
        told, _ = begin(folder).communicate()

        assert left_half > 0  # else no kill met a file that was half there
        assert told.count("kept ") == len(before)
        assert told.count("done ") == ITEMS - len(before)
        assert outputs(folder / "out") == expected
        assert before.items() <= states(folder).items()
        assert not list((folder / "out").rglob(".esp-medsam-*"))
