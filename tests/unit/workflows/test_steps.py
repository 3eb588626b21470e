from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import Tensor, nn

from esp_medsam.errors import DivergedError
from esp_medsam.losses import Annotation
from esp_medsam.networks import Prediction
from esp_medsam.workflows.train import (
    AfterStep,
    AveragedWeights,
    ClipGradients,
    FiniteSteps,
    SeedSteps,
    schedule,
)


NAN, INF = math.nan, math.inf


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))

    def forward(self, image: Tensor) -> Prediction:
        logits = self.layers(image)
        return Prediction(logits, logits, logits, logits[:, :0, 0, 0])


class Loss(nn.Module):
    def forward(self, prediction: Prediction, annotation: Annotation) -> Tensor:
        return self.terms(prediction, annotation)["mask"]

    def terms(self, prediction: Prediction, annotation: Annotation) -> dict[str, Tensor]:
        return {"mask": prediction.low_res_logits.square().mean()}


def prepare(batch: dict[str, Any], *_: Any, **__: Any) -> tuple[Tensor, Annotation]:
    return batch["image"], Annotation(batch["image"], batch["image"])


class Training:
    """A trainer over batches that are good (a number) or hold what is not finite."""

    def __init__(self, batches: Sequence[float], *, accumulate: int = 1, most: int = 3) -> None:
        torch.manual_seed(0)
        self.network = Network()
        self.average = AveragedWeights(self.network, decay=0.5)
        adamw = torch.optim.AdamW(self.network.parameters(), lr=0.1)
        self.optimizer = ClipGradients(1.0).attach(adamw)
        self.rate = schedule(self.optimizer, decay="cosine", warmup=1, steps=8)
        self.finite = FiniteSteps(self.network, self.optimizer, max_bad_steps=most)
        self.trainer = SupervisedTrainer(
            device="cpu",
            max_epochs=1,
            train_data_loader=[self._batch(value) for value in batches],
            network=self.network,
            optimizer=self.optimizer,
            loss_function=Loss(),
            prepare_batch=prepare,
            decollate=False,
            optim_set_to_none=True,
            accumulation_steps=accumulate,
            train_handlers=[self.finite, AfterStep([self.average.update, self.rate.step])],
        )

    @staticmethod
    def _batch(value: float) -> dict[str, Any]:
        image = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        image[1, 0, 0, 0] = value
        return {"image": image, "dataset": ["fine", "other"]}

    def run(self) -> Training:
        self.trainer.run()
        return self

    def state(self) -> list[Tensor]:
        """Return all that a step may change."""
        moments = self.optimizer.state_dict()["state"].values()
        return [
            *self.network.state_dict().values(),
            *self.average.model.state_dict().values(),
            *(value for state in moments for value in state.values()),
            torch.tensor(self.rate.get_last_lr()),
        ]


def same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class TestFiniteSteps:
    @pytest.mark.parametrize("bad", [NAN, INF, 1e30])
    def test_a_skipped_step_leaves_all_as_if_it_had_not_been(self, bad: float) -> None:
        without = Training([1.0, 3.0, 2.0]).run()

        skipped = Training([1.0, bad, 3.0, bad, 2.0]).run()

        assert same(without.state(), skipped.state())
        assert skipped.finite.state_dict() == {"skipped": 2, "in_a_row": 0}

    def test_the_first_step_may_be_the_one(self) -> None:
        assert same(Training([1.0]).run().state(), Training([NAN, 1.0]).run().state())

    def test_all_batches_of_a_step_are_skipped_together(self) -> None:
        without = Training([1.0, 2.0], accumulate=2).run()

        for group in ([NAN, 5.0], [5.0, NAN]):
            skipped = Training([*group, 1.0, 2.0], accumulate=2).run()
            assert same(without.state(), skipped.state())
            assert skipped.finite.skipped == 1

    def test_gradients_add_up_to_those_of_one_step(self) -> None:
        twice = Training([1.0, 1.0, 1.0, 1.0], accumulate=2).run()
        once = Training([1.0, 1.0]).run()

        weights = [dict(training.network.named_parameters()) for training in (once, twice)]
        for name, weight in weights[0].items():
            torch.testing.assert_close(weights[1][name], weight)
        assert twice.rate.last_epoch == 2

    def test_so_many_in_a_row_end_the_training_with_what_was_found(self) -> None:
        training = Training([1.0, NAN, NAN, 1.0, NAN, NAN, NAN, 1.0])

        with pytest.raises(DivergedError) as caught:
            training.run()

        told = str(caught.value)
        assert told.startswith("Training must stay finite; 3 steps in a row (max_bad_steps) did")
        assert "Step 7 of epoch 1: loss nan (mask nan), gradient norm not finite" in told
        assert "learning rate 0.0" in told
        assert "(resume false) with a lower learning_rate" in told
        assert training.finite.skipped == 5

    def test_each_is_told_with_the_sets_it_came_from(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        training = Training([1.0, 1.0])
        training.network.eval()
        training.network.train = lambda mode=True: training.network  # of the batch, one is bad
        training.trainer.data_loader[1]["image"][1] = NAN

        with caplog.at_level(logging.WARNING):
            training.run()

        assert "not finite. Step 2 of epoch 1" in caplog.text
        assert "sets other." in caplog.text

    def test_counts_go_on(self) -> None:
        training = Training([NAN])
        training.finite.load_state_dict({"skipped": 7, "in_a_row": 2})

        with pytest.raises(DivergedError, match="3 steps in a row"):
            training.run()

        assert training.finite.skipped == 8


class TestSeedSteps:
    def test_what_is_drawn_depends_on_the_step_alone(self) -> None:
        drawn: list[Tensor] = []

        def run(batches: int, *, seed: int, before: int) -> list[Tensor]:
            drawn.clear()
            training = Training([1.0] * batches)
            torch.manual_seed(before)
            training.network.register_forward_pre_hook(lambda *_: drawn.append(torch.rand(3)))
            SeedSteps(seed).attach(training.trainer)
            training.run()
            return copy.deepcopy(drawn)

        first = run(3, seed=0, before=1)

        assert same(first, run(3, seed=0, before=2))
        assert not torch.equal(first[0], first[1])
        assert not torch.equal(first[0], run(1, seed=1, before=1)[0])
