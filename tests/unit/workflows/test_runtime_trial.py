"""The trial that finds the fastest runtime of a machine."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from esp_medsam.errors import DeviceError, WeightsNotFoundError
from esp_medsam.networks import build_product
from esp_medsam.networks.fusion import fuse
from esp_medsam.runtimes import RUNTIMES
from esp_medsam.settings import InferenceSettings
from esp_medsam.workflows import runtime_choice, runtime_trial
from esp_medsam.workflows.attempts import with_settings
from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.request import Request, read_request
from esp_medsam.workflows.runtime_choice import Measured, read_choice, situation_of
from esp_medsam.workflows.runtime_timing import Timing
from esp_medsam.workflows.runtime_trial import settled


FAST = Measured(name="openvino", version="2", seconds=0.1, ratio=0.4)
SLOW = Measured(name="onnxruntime", version="1", seconds=0.2, ratio=0.8)


class Trials:
    """Stands for trials, each of which finds what it is told to find."""

    def __init__(self, *found: list[Measured]) -> None:
        self.found = list(found)
        self.told: list[str] = []

    def __call__(self, *_: Any) -> list[Measured]:
        return self.found.pop(0)

    def run(self, request: Request, *, is_worth_it: bool = True) -> str:
        """Return the name of the runtime that a request gets."""
        found = settled(request, threads=1, is_worth_it=is_worth_it, tell=self.told.append)
        return str(found.settings["runtime"])


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(runtime_choice.VARIABLE)
    kinds = (RUNTIMES["openvino"], RUNTIMES["onnxruntime"])
    for module in (runtime_trial, runtime_choice):
        monkeypatch.setattr(module, "candidates", lambda _: kinds)
    monkeypatch.setattr(type(kinds[0]), "version", "1")
    monkeypatch.setattr(runtime_trial, "_single", lambda *_: "the network")
    return read_request(dataset_dir=str(tmp_path), output_dir=str(tmp_path), device="cpu")


def settings_of(request: Request) -> InferenceSettings:
    settings: InferenceSettings = read_config(request).get_parsed_content("settings")
    return settings


def trials_of(monkeypatch: pytest.MonkeyPatch, *found: list[Measured]) -> Trials:
    trials = Trials(*found)
    monkeypatch.setattr(runtime_trial, "_tried", trials)
    return trials


class TestATrial:
    def test_is_made_once_and_its_winner_is_taken(
        self, request_: Request, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trials = trials_of(monkeypatch, [FAST, SLOW])

        assert [trials.run(request_) for _ in range(2)] == ["openvino"] * 2

        begins, ends = trials.told
        assert begins == "Trying out openvino and onnxruntime, once, for up to 20 s"
        assert ends.endswith("; openvino is used")

    def test_is_not_made_for_little_work(
        self, request_: Request, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trials = trials_of(monkeypatch, [FAST, SLOW])

        assert trials.run(request_, is_worth_it=False) == "eager"
        assert trials.run(request_) == "openvino"
        # An engine takes longer to load than PyTorch to segment a picture.
        assert trials.run(request_, is_worth_it=False) == "eager"

    def test_that_was_too_short_is_made_once_more(
        self, request_: Request, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trials = trials_of(monkeypatch, [SLOW], [SLOW])

        assert [trials.run(request_) for _ in range(3)] == ["onnxruntime"] * 3

        assert trials.found == []
        choice = read_choice(situation_of(settings_of(request_)))
        assert choice is not None
        assert choice.measured[0].told == "not ready within 20 s"

    @pytest.mark.parametrize("code", [-9, 1])
    def test_that_something_ended_is_made_once_more(
        self, request_: Request, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        told = f"{runtime_trial.ENDED} {runtime_trial.ended_by(code)}"
        ended = Measured(name="openvino", version="1", told=told)
        trials = trials_of(monkeypatch, [ended, SLOW], [FAST, SLOW])

        names = [trials.run(request_) for _ in range(3)]

        assert names == ["onnxruntime", "openvino", "openvino"]

    def test_that_cannot_begin_leaves_pytorch(
        self, request_: Request, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any) -> list[Measured]:
            raise OSError(12, "Cannot allocate memory")

        trials = trials_of(monkeypatch)
        monkeypatch.setattr(runtime_trial, "_tried", fail)

        assert trials.run(request_) == "eager"
        assert "The trial failed: [Errno 12] Cannot allocate memory" in trials.told[-1]

    def test_of_a_network_of_another_kind_keeps_nothing(
        self, request_: Request, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trials = trials_of(monkeypatch)
        monkeypatch.setattr(runtime_trial, "_single", lambda *_: None)

        assert trials.run(request_) == "eager"
        assert read_choice(situation_of(settings_of(request_))) is None

    @pytest.mark.parametrize(
        ("setting", "kind"),
        [({"device": "cuda:7"}, DeviceError), ({"ckpt_path": "none.pt"}, WeightsNotFoundError)],
    )
    def test_comes_after_the_checks_of_settings(
        self, request_: Request, setting: dict[str, str], kind: type[Exception]
    ) -> None:
        request = with_settings(request_, **setting)

        with pytest.raises(kind):
            settled(request, threads=1, is_worth_it=False, tell=print)

    def test_is_not_made_where_a_runtime_is_named(
        self, request_: Request, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trials = trials_of(monkeypatch)
        monkeypatch.setenv(runtime_choice.VARIABLE, "onnxruntime")

        assert settled(request_, threads=1, is_worth_it=True, tell=trials.told.append) == request_

    def test_is_not_made_without_another_runtime(
        self, request_: Request, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trials = trials_of(monkeypatch)
        for module in (runtime_trial, runtime_choice):
            monkeypatch.setattr(module, "candidates", lambda _: ())

        assert trials.run(request_) == "eager"
        assert trials.told == []


@pytest.mark.slow
class TestAProcess:
    """Each runtime is timed in a process of its own."""

    def timing(self, name: str) -> Timing:
        single = fuse(build_product({"ct": 0}, {"ct": ["liver"]}).eval(), "ct")
        return Timing(name, single, (64, 64), "cpu", 1)

    def result_of(self, name: str, *, killed: bool = False, seconds: float = 60) -> Any:
        trial = runtime_trial._Trial(self.timing(name))
        try:
            if killed:
                trial._process.kill()
            return trial.result(runtime_trial.time.monotonic() + seconds)
        finally:
            trial.end()
            assert not trial._process.is_alive()

    def test_tells_what_it_measured(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

        found = self.result_of("onnxruntime")

        assert found.told == ""
        assert found.ratio > 0
        assert found.difference < 1e-4
        assert found.dice == 1
        assert len(list((tmp_path / "esp-medsam" / "engines").iterdir())) == 1

    def test_that_crashes_is_told_of(self) -> None:
        found = self.result_of("onnxruntime", killed=True)

        name = signal.Signals.SIGKILL.name if sys.platform != "win32" else "exit status"
        assert name in found.told
        assert found.ratio is None

    def test_that_takes_too_long_is_ended(self) -> None:
        assert self.result_of("onnxruntime", seconds=0.1) is None

    def test_that_cannot_compute_says_why(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

        found = self.result_of("cuda-graph")

        assert found.ratio is None
        assert found.told == "it does not run on cpu"
