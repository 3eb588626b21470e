"""train.yaml, stopped and killed at any step: what goes on equals what was never stopped."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from torch import Tensor, nn

from esp_medsam.errors import DiskFullError, explain
from esp_medsam.networks import Prediction
from tests.support.pictures import rectangle, write_datalist, write_labeled
from tests.support.processes import run_python
from tests.support.training import build_training


STEPS = 5
"""Of an epoch: 20 slices in batches of 4."""


DEFAULTS: dict[str, Any] = {
    "input_size": [32, 32],
    "device": "cpu",
    "batch_size": 4,
    "epochs": 3,
    "samples_per_epoch": 4 * STEPS,
    "warmup_steps": 3,
    "learning_rate": 1e-2,
    "checkpoint_steps": 2,
    "amp": False,
}

CHILD = """
import json, runpy, sys
runpy.run_path(sys.argv[1])[sys.argv[2]](**json.loads(sys.argv[3]))
"""


class TinyNetwork(nn.Module):
    """Two convolutions with all that has a state of its own: batch norm, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.BatchNorm2d(4), nn.Dropout(0.2))
        self.head = nn.Conv2d(4, 6, 1)

    def predict(self, image: Tensor, modality: Tensor) -> Prediction:
        small = self.head(self.stem(image).relu() + modality[:, None, None, None])
        logits = nn.functional.interpolate(small, scale_factor=4.0)
        patches = nn.functional.avg_pool2d(small, 8)
        return Prediction(logits, patches, small[:, :1], small[:, :0, 0, 0])

    def predict_drawn(
        self, image: Tensor, modality: Tensor, drawn: Tensor, patch_prompt: Tensor | None = None
    ) -> Prediction:
        del drawn, patch_prompt
        return self.predict(image, modality)


class StoppedError(Exception):
    """Stands for whatever ends a process."""


def train(
    datalist: str,
    output_dir: str,
    *,
    stop: int = 0,
    kill: int = 0,
    spoil: Sequence[int] = (),
    **override: Any,
) -> None:
    """Train for 3 epochs, or until a step is begun at which the run stops or the process dies.

    At the steps to spoil the weights are not finite; in those to come they are again.
    """
    torch.manual_seed(0)
    paths = {"datalist": datalist, "output_dir": output_dir}
    given = {**DEFAULTS, **override}
    workflow = build_training("train.yaml", network_def=TinyNetwork(), **paths, **given)
    workflow.initialize()
    trainer = workflow.parser.get_parsed_content("train#trainer")

    @trainer.on(Events.ITERATION_STARTED)
    def end(engine: Any) -> None:
        if engine.state.iteration == stop:
            raise StoppedError
        if engine.state.iteration == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        bias = workflow.network_def.head.bias.data
        bias.fill_(math.nan) if engine.state.iteration in spoil else bias.nan_to_num_(0.0)

    try:
        workflow.run()
    except RuntimeError as error:  # MONAI's
        if isinstance(error.__cause__, StoppedError):
            raise error.__cause__ from None
        raise


def die_while_writing(count: int, **given: Any) -> None:
    """Train, and die when a file is to be brought to the disk for the so-manieth time."""
    fsync, left = os.fsync, [count]

    def dying(descriptor: int) -> None:
        left[0] -= stat.S_ISREG(os.fstat(descriptor).st_mode)
        if left[0] == 0:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    os.fsync = dying
    train(**given)


def in_a_process(function: str, **given: Any) -> int:
    return run_python(CHILD, __file__, function, json.dumps(given)).returncode


def result(output_dir: Path) -> dict[str, Any]:
    """Return all that a run leaves behind, ready to compare bit by bit."""
    last = max((output_dir / "checkpoints").glob("step-*.pt"))
    content = torch.load(last, weights_only=True)
    return {
        "checkpoint": content,
        "history": json.loads((output_dir / "history.json").read_text(encoding="utf-8")),
        "best": torch.load(output_dir / "model.pt", weights_only=True),
        "last": torch.load(output_dir / "model_last.pt", weights_only=True),
    }


def differences(first: Any, second: Any, place: str = "") -> list[str]:
    """Return where two results differ by as much as a bit, but for the time they took."""
    if isinstance(first, Tensor):
        return [] if first.dtype == second.dtype and torch.equal(first, second) else [place]
    if isinstance(first, dict):
        assert first.keys() == second.keys(), place
        compared = [key for key in first if key != "seconds"]  # which no two runs share
        return [f for k in compared for f in differences(first[k], second[k], f"{place}/{k}")]
    if isinstance(first, list | tuple):
        assert len(first) == len(second), place
        pairs = enumerate(zip(first, second, strict=True))
        return [found for n, (a, b) in pairs for found in differences(a, b, f"{place}/{n}")]
    return [] if first == second else [f"{place}: {first} != {second}"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums over another number of threads may round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def datalist(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("images")
    items = []
    for number in range(6):
        modality, target = (("dermoscopy", "lesion"), ("xray", "lungs"))[number % 2]
        mask = rectangle((40, 32), (8, 20 + number), (10, 24))
        items.append(write_labeled(folder, str(number), modality, target, mask))
    path = write_datalist(folder, training=items[:4], validation=items[4:])
    return str(path)


@pytest.fixture(scope="module")
def unbroken(one_thread: None, datalist: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("unbroken")
    train(datalist, str(folder))
    return folder


class TestResume:
    @pytest.mark.parametrize("stop", [1, 2, 4, STEPS, STEPS + 1, 2 * STEPS + 4, 3 * STEPS])
    def test_a_stopped_run_that_goes_on_equals_one_that_was_not(
        self, datalist: str, unbroken: Path, tmp_path: Path, stop: int
    ) -> None:
        with pytest.raises(StoppedError):
            train(datalist, str(tmp_path), stop=stop)

        train(datalist, str(tmp_path))

        assert differences(result(unbroken), result(tmp_path)) == []

    def test_gradients_that_add_up_are_not_cut_in_two(self, datalist: str, tmp_path: Path) -> None:
        train(datalist, str(tmp_path / "whole"), accumulate=2, checkpoint_steps=1)
        with pytest.raises(StoppedError):
            train(
                datalist, str(tmp_path / "broken"), accumulate=2, checkpoint_steps=1, stop=STEPS + 4
            )

        train(datalist, str(tmp_path / "broken"), accumulate=2, checkpoint_steps=1)

        assert differences(result(tmp_path / "whole"), result(tmp_path / "broken")) == []

    def test_workers_change_nothing(self, datalist: str, unbroken: Path, tmp_path: Path) -> None:
        with pytest.raises(StoppedError):
            train(datalist, str(tmp_path), stop=STEPS + 3, num_workers=2)

        train(datalist, str(tmp_path), num_workers=0)

        assert differences(result(unbroken), result(tmp_path)) == []

    def test_another_seed_changes_the_run(
        self, datalist: str, unbroken: Path, tmp_path: Path
    ) -> None:
        train(datalist, str(tmp_path), seed=1)

        changed = differences(result(unbroken)["last"], result(tmp_path)["last"])
        assert "/head.weight" in changed

    def test_a_run_that_is_done_stays_as_it_is(
        self, datalist: str, tmp_path: Path, unbroken: Path
    ) -> None:
        train(datalist, str(tmp_path))
        train(datalist, str(tmp_path), stop=1)

        assert differences(result(unbroken), result(tmp_path)) == []

    def test_more_epochs_go_on_from_the_end(self, datalist: str, tmp_path: Path) -> None:
        train(datalist, str(tmp_path))

        train(datalist, str(tmp_path), epochs=4, stop=3 * STEPS)

        assert [epoch["epoch"] for epoch in result(tmp_path)["history"]] == [1, 2, 3, 4]

    def test_refuses_other_settings_and_names_them(self, datalist: str, tmp_path: Path) -> None:
        with pytest.raises(StoppedError):
            train(datalist, str(tmp_path), stop=STEPS)

        with pytest.raises(RuntimeError) as caught:
            train(datalist, str(tmp_path), learning_rate=1e-3, batch_size=2)

        line = explain(caught.value) or ""
        assert line.startswith("E_OPTION: resume must use the settings")
        assert "batch_size was 4, is 2; learning_rate was 0.01, is 0.001" in line

    def test_true_needs_a_checkpoint_and_false_takes_none(
        self, datalist: str, unbroken: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(RuntimeError) as caught:
            train(datalist, str(tmp_path), resume=True)
        assert "resume must be auto or false without a checkpoint" in (explain(caught.value) or "")
        with pytest.raises(StoppedError):
            train(datalist, str(tmp_path), stop=STEPS, learning_rate=1e-3)

        train(datalist, str(tmp_path), resume=False)

        assert differences(result(unbroken), result(tmp_path)) == []

    def test_a_damaged_checkpoint_is_passed_over_with_a_line(
        self, datalist: str, unbroken: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(StoppedError):
            train(datalist, str(tmp_path), stop=2 * STEPS)
        before, last = sorted((tmp_path / "checkpoints").iterdir())
        last.write_bytes(last.read_bytes()[:-100])

        with caplog.at_level(logging.INFO):
            train(datalist, str(tmp_path))

        assert f"{last} is damaged; the checkpoint before it is used." in caplog.text
        assert f"goes on after step {int(before.name[5:13])}" in caplog.text
        assert differences(result(unbroken), result(tmp_path)) == []

    def test_steps_that_are_skipped_push_no_good_checkpoint_out(
        self, datalist: str, tmp_path: Path
    ) -> None:
        with pytest.raises(RuntimeError) as caught:
            train(datalist, str(tmp_path), spoil=range(5, 99), max_bad_steps=8)

        assert (explain(caught.value) or "").startswith("E_DIVERGED: ")
        kept = sorted(path.name[5:13] for path in (tmp_path / "checkpoints").iterdir())
        assert kept == ["00000002", "00000004"]

    def test_a_run_whose_last_step_is_skipped_is_done(self, datalist: str, tmp_path: Path) -> None:
        train(datalist, str(tmp_path), spoil=[3 * STEPS])

        train(datalist, str(tmp_path), stop=3 * STEPS)

    def test_a_full_disk_stops_the_run_and_loses_no_checkpoint(
        self, datalist: str, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(StoppedError):
            train(datalist, str(tmp_path), stop=2 * STEPS)
        there = sorted((tmp_path / "checkpoints").iterdir())

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(RuntimeError) as caught:
                train(datalist, str(tmp_path))

        assert (explain(caught.value) or "").startswith(f"{DiskFullError.code}: ")
        assert there[-1] in sorted((tmp_path / "checkpoints").iterdir())
        train(datalist, str(tmp_path))
        assert differences(result(unbroken), result(tmp_path)) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
class TestKill:
    def test_a_run_that_is_killed_again_and_again_equals_one_that_was_not(
        self, datalist: str, unbroken: Path, tmp_path: Path
    ) -> None:
        rng = np.random.default_rng(0)
        for kill in sorted(int(step) for step in rng.choice(3 * STEPS, 3, replace=False) + 1):
            given = {"datalist": datalist, "output_dir": str(tmp_path), "kill": kill}
            assert in_a_process("train", **given) == -signal.SIGKILL

        assert in_a_process("train", datalist=datalist, output_dir=str(tmp_path)) == 0
        assert differences(result(unbroken), result(tmp_path)) == []

    def test_a_run_that_is_killed_while_it_writes_equals_one_that_was_not(
        self, datalist: str, unbroken: Path, tmp_path: Path
    ) -> None:
        given = {"datalist": datalist, "output_dir": str(tmp_path)}
        for count in (1, 4, 9):
            status = in_a_process("die_while_writing", count=count, **given)
            assert status == -signal.SIGKILL

        assert in_a_process("train", **given) == 0
        assert differences(result(unbroken), result(tmp_path)) == []
        assert not list(tmp_path.rglob(".esp-medsam-*"))
