from __future__ import annotations

import io
import logging
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from rich.console import Console
from torch import nn

from esp_medsam.workflows.train import History, TellProgress


def run(console: Console, *, fail: bool = False) -> None:
    def step(engine: Engine, loss: float) -> dict[str, Any]:
        if fail and engine.state.iteration == 2:
            raise KeyError(engine.state.epoch)
        return {"loss": torch.tensor(loss)}

    trainer, validator = Engine(step), Engine(lambda *_: None)
    validator.state.epoch = 1
    validator.state.metrics = {"val_mean_dice": 0.5, "dice_ct": 0.25, "dice_mri": 0.75}
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    history = History(validator, optimizer)
    history.attach(trainer)
    TellProgress(history, console=console).attach(trainer)
    trainer.run([1.0, 2.0], max_epochs=2)


class TestTellProgress:
    def test_logs_a_line_an_epoch_off_a_terminal(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="esp_medsam"):
            run(Console(file=io.StringIO()))

        first, second = (r.message for r in caplog.records if r.name.startswith("esp_medsam"))
        assert first.startswith(
            "Epoch 1 of 2: loss 1.500, Dice ct 0.250, mri 0.750, learning rate 0.5, "
        )
        assert first.endswith(" left.")
        assert second == "Epoch 2 of 2: loss 1.500, learning rate 0.5."

    def test_moves_one_line_on_a_terminal(self) -> None:
        shown = io.StringIO()

        run(Console(file=shown, force_terminal=True, width=120))

        text = shown.getvalue()
        assert "Epoch 2 of 2" in text
        assert "4/4" in text
        assert "Dice ct 0.250, mri 0.750" in text

    def test_lets_go_of_the_terminal_when_the_training_fails(self) -> None:
        shown = io.StringIO()

        with pytest.raises(KeyError, match="1"):
            run(Console(file=shown, force_terminal=True, width=120), fail=True)

        assert shown.getvalue().rfind("\x1b[?25h") > shown.getvalue().rfind("\x1b[?25l")
