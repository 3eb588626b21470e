from __future__ import annotations

import copy
import json
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from esp_medsam.errors import OptionError
from esp_medsam.losses import Annotation
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import ESPMedSAM, Prediction, build_product
from esp_medsam.networks.checkpoints import load_checkpoint
from esp_medsam.workflows.train import (
    AveragedWeights,
    ClipGradients,
    EarlyStop,
    History,
    KeepBest,
    LeaveUntouched,
    PredictForward,
    dice_inputs,
    samples_of,
    schedule,
    turns_of,
    warmup_of,
    weight_groups,
    with_frozen,
)


@pytest.fixture(scope="module")
def network() -> ESPMedSAM:
    return build_product({"xray": 1}, {"xray": ["lungs"]}, "xray", expert_ratio=0.1)


class TestPredictForward:
    def test_is_predict(self, network: ESPMedSAM) -> None:
        network.eval()
        image, modality = torch.randn(1, 3, 64, 64), torch.tensor([1])

        with torch.no_grad():
            wrapped = PredictForward(network)(image, modality)
            direct = network.predict(image, modality)

        torch.testing.assert_close(wrapped.low_res_logits, direct.low_res_logits)

    def test_amp_computes_in_bfloat16_and_leaves_the_weights(self, network: ESPMedSAM) -> None:
        wrapped = PredictForward(network, amp=True)(torch.randn(2, 3, 64, 64), torch.tensor([1, 1]))

        assert wrapped.low_res_logits.dtype == torch.bfloat16
        assert {p.dtype for p in network.parameters()} == {torch.float32}


class TestAveragedWeights:
    def test_follows_slowly_but_takes_the_statistics_over(self) -> None:
        source = build_product({"xray": 1}, {"xray": ["lungs"]}, "xray", expert_ratio=0.1)
        average = AveragedWeights(source, decay=0.9)
        average.update()
        with torch.no_grad():
            source.image_encoder.stem1.norm.weight.add_(1.0)
            source.image_encoder.stem1.norm.running_mean.add_(1.0)

        average.update()

        averaged = average.network.image_encoder.stem1.norm
        torch.testing.assert_close(averaged.weight, torch.full_like(averaged.weight, 1.1))
        torch.testing.assert_close(
            averaged.running_mean, source.image_encoder.stem1.norm.running_mean
        )


class TestWeightGroups:
    def test_norms_and_biases_do_not_decay_and_frozen_ones_are_left_out(self) -> None:
        layers = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        layers[2].requires_grad_(False)

        decayed, plain = weight_groups(layers, 0.1)

        assert [p.shape for p in decayed["params"]] == [(3, 2)]
        assert len(plain["params"]) == 3
        assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


class TestClipGradients:
    def test_all_gradients_together_have_at_most_the_norm(self) -> None:
        first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        optimizer = ClipGradients(1.0).attach(torch.optim.SGD([first, second], lr=1.0))
        (30 * first + 40 * second).sum().backward()

        optimizer.step()

        torch.testing.assert_close(torch.cat([first, second]), torch.tensor([-0.6, -0.8]))

    def test_small_gradients_are_left_alone(self) -> None:
        parameter = nn.Parameter(torch.zeros(1))
        optimizer = ClipGradients(1.0).attach(torch.optim.SGD([parameter], lr=1.0))
        (0.5 * parameter).sum().backward()

        optimizer.step()

        torch.testing.assert_close(parameter, torch.tensor([-0.5]))


class TestLeaveUntouched:
    def test_what_no_batch_takes_neither_decays_nor_moves(self) -> None:
        """Of stacked weights the first is taken in two steps, the second in the last alone."""
        weights = nn.ParameterList([nn.Parameter(torch.ones(2, 2)) for _ in range(3)])
        optimizer = torch.optim.AdamW(weights, lr=0.1, weight_decay=0.5)
        LeaveUntouched().attach(optimizer)

        for taken in ([0], [0, 1]):
            optimizer.zero_grad()
            torch.stack(list(weights))[taken].sum().backward()
            assert all(weight.grad is not None for weight in weights)
            optimizer.step()

        assert (weights[0] < weights[1]).all()
        assert (weights[1] < 1).all()
        assert torch.equal(weights[2], torch.ones(2, 2))
        assert len(optimizer.state) == 2


class TestSchedule:
    @pytest.mark.parametrize(("decay", "end"), [("cosine", 0.0), ("exponential", 0.01)])
    def test_rises_and_then_falls_to_its_end(self, decay: Any, end: float) -> None:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
        rate = schedule(optimizer, decay=decay, warmup=4, steps=20)

        seen = [rate.get_last_lr()[0]]
        for _ in range(20):
            optimizer.step()
            rate.step()
            seen.append(rate.get_last_lr()[0])

        assert seen[:5] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])
        assert all(after < before for before, after in pairwise(seen[4:]))
        assert seen[-1] == pytest.approx(2.0 * end)

    def test_halfway_down_an_exponential_is_the_root_of_its_end(self) -> None:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        rate = schedule(optimizer, decay="exponential", warmup=0, steps=2)

        optimizer.step()
        rate.step()

        assert rate.get_last_lr() == pytest.approx([0.1])


class TestEarlyStop:
    def run(self, scores: list[float], patience: int, tmp_path: Path) -> int:
        best = KeepBest(AveragedWeights(nn.Linear(1, 1)), tmp_path / "model.pt")
        validator, trainer = Engine(lambda *_: None), Engine(lambda *_: None)
        best.attach(validator)

        @trainer.on(Events.EPOCH_COMPLETED)
        def validate(engine: Engine) -> None:
            validator.state.metrics["val_mean_dice"] = scores[engine.state.epoch - 1]
            validator.fire_event(Events.COMPLETED)

        EarlyStop(best, patience=patience).attach(trainer)
        return trainer.run([0], max_epochs=len(scores)).epoch

    def test_ends_a_training_that_has_not_become_better(self, tmp_path: Path) -> None:
        assert self.run([0.1, 0.5, 0.4, 0.5, 0.9], 2, tmp_path) == 4

    def test_lets_one_go_on_that_does_or_has_no_patience_set(self, tmp_path: Path) -> None:
        assert self.run([0.1, 0.5, 0.4, 0.6, 0.5], 2, tmp_path) == 5
        assert self.run([0.5, 0.4, 0.3, 0.2], 0, tmp_path) == 4

    def test_one_that_was_ended_does_not_go_on(self, tmp_path: Path) -> None:
        best = KeepBest(AveragedWeights(nn.Linear(1, 1)), tmp_path / "model.pt")
        best.load_state_dict({"best": 0.5, "since": 2})
        steps: list[int] = []
        trainer = Engine(lambda engine, _: steps.append(engine.state.iteration))
        EarlyStop(best, patience=2).attach(trainer)

        trainer.run([0], max_epochs=3)

        assert steps == []


class TestWithFrozen:
    def test_tells_how_many_parameters_train(self, caplog: pytest.LogCaptureFixture) -> None:
        layers = nn.Sequential(nn.Linear(999, 1), nn.Linear(1, 1))

        with caplog.at_level(logging.INFO):
            with_frozen(layers, ["0.*"])

        assert caplog.messages == [
            "Frozen by 0.*: 1,000 parameters.",
            "2 of 1,002 parameters train (0.2 %).",
        ]

    def test_frozen_norms_of_what_is_trained_keep_their_statistics(
        self, network: ESPMedSAM
    ) -> None:
        frozen = with_frozen(copy.deepcopy(network), ["image_encoder.*"])
        forward = PredictForward(frozen)
        before = {name: value.clone() for name, value in frozen.named_buffers()}

        forward.train()
        forward(torch.randn(2, 3, 64, 64), torch.tensor([1, 1]))

        assert frozen.mask_decoder.training
        changed = [n for n, value in frozen.named_buffers() if not torch.equal(value, before[n])]
        assert not [name for name in changed if name.startswith("image_encoder.")]


class TestHistory:
    def test_tells_of_each_epoch_its_loss_and_its_validation_if_it_had_one(
        self, tmp_path: Path
    ) -> None:
        validator = Engine(lambda *_: None)
        trainer = Engine(lambda _, loss: {"loss": torch.tensor(loss)})
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)

        @trainer.on(Events.EPOCH_COMPLETED(every=2))
        def validate(engine: Engine) -> None:
            validator.state.epoch = engine.state.epoch
            validator.state.metrics = {"val_mean_dice": 0.25, "worst": float("nan")}

        history = History(validator, optimizer, path=tmp_path / "history.json")
        history.attach(trainer)
        trainer.run([1.0, 2.0, 6.0], max_epochs=2)

        first, second = json.loads((tmp_path / "history.json").read_text())
        assert 0 <= first.pop("seconds") < 60
        assert first == {
            "epoch": 1,
            "steps": 3,
            "loss": 3.0,
            "skipped": 0,
            "learning_rate": 0.5,
            "metrics": {},
        }
        assert second["metrics"] == {"val_mean_dice": 0.25, "worst": None}

    def test_counts_the_seconds_of_an_epoch_in_all_its_parts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [100.0]
        monkeypatch.setattr("esp_medsam.workflows.history.time.monotonic", lambda: now[0])
        broken, whole = (self._attached(now) for _ in range(2))

        @broken[1].on(Events.ITERATION_COMPLETED(once=2))
        def save(engine: Engine) -> None:
            broken[1].kept = broken[0].state_dict()
            engine.terminate()

        broken[1].run([1.0, 1.0, 1.0], max_epochs=1)
        now[0] += 1000.0  # of no run
        whole[0].load_state_dict(broken[1].kept)
        whole[1].run([1.0], max_epochs=1)

        assert whole[0].epochs[0]["seconds"] == 30.0
        assert whole[0].seconds == 30.0

    @staticmethod
    def _attached(now: list[float]) -> tuple[History, Any]:
        """Return a history and a trainer whose steps take ten seconds each."""

        def step(engine: Engine, loss: float) -> dict[str, Any]:
            del engine
            now[0] += 10.0
            return {"loss": torch.tensor(loss)}

        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
        history, trainer = History(Engine(lambda *_: None), optimizer), Engine(step)
        history.attach(trainer)
        return history, trainer


class TestDiceInputs:
    def test_what_is_unknown_is_empty_in_the_truth(self) -> None:
        logits = torch.ones(1, 2, 4, 4)
        annotation = Annotation(torch.ones(1, 3, 4, 4), torch.tensor([[True, False, False]]))
        output = {
            "pred": Prediction(logits, logits, logits, logits[:, :0, 0, 0]),
            "label": annotation,
        }

        masks, truth = dice_inputs(output)

        assert masks.shape == truth.shape == (1, 3, 4, 4)
        assert truth.sum((0, 2, 3)).tolist() == [16, 0, 0]

    def test_have_one_width_whatever_the_batch_s_modalities_have(self) -> None:
        patches = torch.ones(1, 1, 1, 1)
        narrow = Prediction(torch.ones(1, 1, 4, 4), patches, patches, torch.ones(1, 0))
        annotation = Annotation(torch.ones(1, 6, 4, 4), torch.tensor([[True] + [False] * 5]))

        masks, truth = dice_inputs({"pred": narrow, "label": annotation})

        assert masks.shape == truth.shape == (1, 6, 4, 4)
        assert masks.sum((0, 2, 3)).tolist() == truth.sum((0, 2, 3)).tolist() == [16] + [0] * 5


class TestSamplesOf:
    @pytest.mark.parametrize(
        ("asked", "slices", "samples"), [("auto", 30, 300), ("auto", 9000, 4000), (50, 30, 50)]
    )
    def test_goes_by_how_many_there_are_unless_told(
        self, asked: int | str, slices: int, samples: int
    ) -> None:
        assert samples_of(asked, range(slices)) == samples


class TestWarmupOf:
    @pytest.mark.parametrize(
        ("asked", "steps", "warmup"),
        [("auto", 4, 0), ("auto", 300, 15), ("auto", 9000, 200), (7, 4, 7)],
    )
    def test_is_a_share_of_all_steps_unless_told(
        self, asked: int | str, steps: int, warmup: int
    ) -> None:
        assert warmup_of(asked, steps) == warmup


class TestKeepBest:
    def test_keeps_the_weights_that_validated_best(
        self, network: ESPMedSAM, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        average = AveragedWeights(network)
        best = KeepBest(average, tmp_path / "model.pt")
        engine = Engine(lambda *_: None)
        best.attach(engine)
        name = "mask_decoder.hypernetwork.fc1.bias"

        for score in (0.5, 0.8, 0.6, float("nan")):
            average.network.state_dict()[name].fill_(score)
            engine.state.metrics["val_mean_dice"] = score
            engine.fire_event(Events.COMPLETED)
        with caplog.at_level(logging.INFO):
            best.tell()

        kept = load_checkpoint(tmp_path / "model.pt")[name]
        torch.testing.assert_close(kept.float(), torch.full_like(kept, 0.8).float())
        assert f"Best weights (mean Dice 0.800): {tmp_path / 'model.pt'}." in caplog.text

    def test_of_equals_keeps_the_latest(self, tmp_path: Path) -> None:
        layer = nn.Linear(1, 1)
        best = KeepBest(AveragedWeights(layer, decay=0.0), tmp_path / "model.pt")
        engine = Engine(lambda *_: None)
        best.attach(engine)

        for value in (1.0, 2.0):
            best.average.network.weight.data.fill_(value)
            engine.state.metrics["val_mean_dice"] = 0.5
            engine.fire_event(Events.COMPLETED)

        assert load_checkpoint(tmp_path / "model.pt")["weight"] == 2.0
        assert best.since == 1

    def test_keeps_weights_that_never_had_a_score(self, network: ESPMedSAM, tmp_path: Path) -> None:
        best = KeepBest(AveragedWeights(network), tmp_path / "model.pt")

        best.tell()

        assert (tmp_path / "model.pt").is_file()


class TestTurns:
    def test_auto_gives_two_where_there_are_several_targets(self, table: ModalityTable) -> None:
        turns = turns_of("auto", table)

        several = {modality.name for modality in table.modalities if len(modality.targets) > 1}
        assert {name for name, count in turns.items() if count == 2} == several
        assert set(turns.values()) == {1, 2}

    def test_are_those_that_are_given(self, table: ModalityTable) -> None:
        assert turns_of({"ct": 3}, table) == {"ct": 3}
        with pytest.raises(OptionError, match=r"turns must name modalities.*got ct, mir"):
            turns_of({"ct": 2, "mir": 2}, table)
