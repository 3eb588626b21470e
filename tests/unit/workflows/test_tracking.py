"""What is logged to MLflow and TensorBoard, by a stand-in of MONAI's handlers."""

from __future__ import annotations

import dataclasses
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ignite.engine import Engine

from esp_medsam.errors import DivergedError, OptionError
from esp_medsam.training_settings import TrainSettings
from esp_medsam.workflows import tracking


@dataclasses.dataclass
class Handler:
    options: dict[str, Any]


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "_Tracking", lambda **options: Handler(options))
    monkeypatch.setattr(tracking, "TensorBoardStatsHandler", lambda **options: Handler(options))
    monkeypatch.setattr(tracking, "find_spec", lambda name: ModuleSpec(name, None))


def settings(mlflow: str | None) -> TrainSettings:
    plain = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "weight_decay": 0.05}
    made = SimpleNamespace(
        **plain, decay="cosine", seed=0, mlflow=mlflow, output_dir=str(Path("data", "run1"))
    )
    return cast(TrainSettings, made)


@pytest.mark.usefixtures("handlers")
class TestTracked:
    def test_without_an_address_tensorboard_alone_is_written(self) -> None:
        for part in ("training", "validation"):
            (curves,) = tracking.tracking_handlers(settings(None), part)

            assert curves.options["log_dir"] == str(Path("data", "run1", "tensorboard"))

    def test_without_tensorboard_a_run_has_no_curves_of_it_and_says_so_once(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(tracking, "find_spec", lambda name: None)

        with caplog.at_level("INFO"):
            made = [
                tracking.tracking_handlers(settings(None), part)
                for part in ("training", "validation")
            ]

        assert made == [[], []]
        (told,) = caplog.messages
        assert "install esp-medsam[train]" in told

    def test_other_processes_track_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tracking, "is_first", lambda: False)

        assert tracking.tracking_handlers(settings("runs"), "training") == []

    def test_training_and_validation_go_into_one_run_named_as_its_folder(self) -> None:
        made = [
            tracking.tracking_handlers(settings("runs"), part)
            for part in ("training", "validation")
        ]

        (_, training), (_, validation) = made
        for handler in (training, validation):
            assert handler.options["tracking_uri"] == "runs"
            assert handler.options["run_name"].startswith("run1-")
        assert training.options["run_name"] == validation.options["run_name"]
        assert training.options["experiment_param"]["learning_rate"] == 1e-3
        assert validation.options["iteration_log"] is False

    def test_an_address_that_does_not_open_is_told_without_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(**options: Any) -> None:
            msg = f"no store at {options['tracking_uri']}"
            raise ConnectionError(msg)

        monkeypatch.setattr(tracking, "_Tracking", refuse)

        with pytest.raises(OptionError, match="in ConnectionError") as caught:
            tracking.tracking_handlers(settings("http://me:secret@nowhere"), "training")

        assert "secret" not in str(caught.value)

    def test_where_it_is_not_installed_the_extra_is_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tracking, "find_spec", lambda name: None)

        with pytest.raises(OptionError, match=r"pip install 'esp-medsam\[train\]'"):
            tracking.tracking_handlers(settings("runs"), "training")


class Run:
    """A client of MLflow that knows of one run, and what its status was set to."""

    def __init__(self) -> None:
        self.status: list[str] = []

    def update_run(self, run: str, status: str) -> None:
        self.status.append(status)

    def set_terminated(self, run: str, status: str) -> None:
        self.status.append(status)


class TestTracking:
    @pytest.fixture
    def run(self) -> Run:
        return Run()

    @pytest.fixture
    def handler(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> Any:
        """The handler as its constructor leaves it, which needs the package."""
        handler = tracking._Tracking.__new__(tracking._Tracking)
        said = {"iteration_log": False, "epoch_log": False, "close_on_complete": True}
        vars(handler).update(said, client=run, artifacts=(), run_finish_status="FINISHED")
        monkeypatch.setattr(tracking.MLFlowHandler, "start", lambda self, engine: None)
        handler.cur_run = SimpleNamespace(info=SimpleNamespace(run_id="1"))
        return handler

    def test_a_run_is_finished_at_its_end(self, handler: Any, run: Run) -> None:
        engine = Engine(lambda *_: None)
        handler.attach(engine)

        engine.run([0])

        assert run.status == ["RUNNING", "FINISHED"]

    @pytest.mark.parametrize(
        ("ended_by", "status"),
        [(DivergedError("not finite"), "FAILED"), (KeyboardInterrupt(), "KILLED")],
    )
    def test_a_run_that_breaks_off_does_not_stay_running(
        self, handler: Any, run: Run, ended_by: BaseException, status: str
    ) -> None:
        def step(*_: Any) -> None:
            raise ended_by

        engine = Engine(step)
        handler.attach(engine)

        with pytest.raises(type(ended_by)):
            engine.run([0])

        assert run.status[0] == "RUNNING"
        assert set(run.status[1:]) == {status}

    def test_a_server_that_is_gone_does_not_hide_what_went_wrong(
        self, handler: Any, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any) -> None:
            raise ConnectionError

        monkeypatch.setattr(run, "set_terminated", refuse)
        engine = Engine(lambda *_: 1 / 0)
        handler.attach(engine)

        with pytest.raises(ZeroDivisionError):
            engine.run([0])

    def test_a_server_that_is_gone_at_the_start_is_told(
        self, handler: Any, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any) -> None:
            raise ConnectionError

        monkeypatch.setattr(run, "update_run", refuse)
        engine = Engine(lambda *_: None)
        handler.attach(engine)

        with pytest.raises(OptionError, match="in ConnectionError"):
            engine.run([0])
