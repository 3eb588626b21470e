"""A run in MLflow's own database, as its pages would show it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pictures import write_radiographs


pytest.importorskip("mlflow", reason="needs the extra train")


def test_a_training_is_one_finished_run_with_its_curves_and_settings(tmp_path: Path) -> None:
    write_radiographs(tmp_path)
    (tmp_path / "tracked.yaml").write_text(
        "mlflow: sqlite:///runs.db\nsamples_per_epoch: 2\nbatch_size: 2\nwarmup_steps: 1\n"
    )
    options = ["--config", "tracked.yaml", "--device", "cpu", "--input-size", "64"]
    program = Path(sys.executable).with_name("esp-medsam")

    subprocess.run(
        [program, "train", "d.json", "out", *options, "--epochs", "1"], cwd=tmp_path, check=True
    )

    with sqlite3.connect(tmp_path / "runs.db") as runs:
        statuses = runs.execute("SELECT name, status FROM runs").fetchall()
        metrics = {name for (name,) in runs.execute("SELECT DISTINCT key FROM metrics")}
        parameters = dict(runs.execute("SELECT key, value FROM params").fetchall())
    runs.close()
    ((name, status),) = statuses
    assert name.startswith("out-")
    assert status == "FINISHED"
    assert {"loss", "val_mean_dice"} <= metrics
    assert parameters["batch_size"] == "2"
