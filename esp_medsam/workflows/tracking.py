"""Log a run to TensorBoard and MLflow with MONAI's handlers."""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.handlers import MLFlowHandler, TensorBoardStatsHandler

from esp_medsam.errors import OptionError
from esp_medsam.training_settings import TrainSettings
from esp_medsam.workflows.broken_off import when_broken_off
from esp_medsam.workflows.distributed import is_first
from esp_medsam.workflows.forward import loss_of


logger = logging.getLogger(__name__)

EXPERIMENT = "esp_medsam"


def tracking_handlers(settings: TrainSettings, part: str) -> list[Any]:
    """Return the handlers of an engine that track a run; empty except in the first process.

    TensorBoard curves are written if it is installed, MLflow's if an address is given. Both receive
    losses, metrics, learning rates and plain settings, but never images or paths.

    Args:
        settings: All settings of the run.
        part: ``training`` or ``validation``.

    Raises:
        OptionError: If an address is given but mlflow is not installed or cannot open it.
    """
    if not is_first():
        return []
    return [*_tensorboard(settings, part), *_mlflow(settings, part)]


def _tensorboard(settings: TrainSettings, part: str) -> list[Any]:
    """Return the handler that writes TensorBoard curves; empty if it is not installed."""
    is_training = part == "training"
    if find_spec("tensorboard") is None:
        if is_training:  # logged only once
            told = (
                "TensorBoard is not installed, so curves are only in %s; install "
                "esp-medsam[train] to add it."
            )
            logger.info(told, "training.html")
        return []
    folder = str(Path(settings.output_dir, "tensorboard"))
    if is_training:
        return [TensorBoardStatsHandler(log_dir=folder, tag_name="loss", output_transform=loss_of)]
    return [TensorBoardStatsHandler(log_dir=folder, iteration_log=False)]


def _mlflow(settings: TrainSettings, part: str) -> list[Any]:
    """Return the handler that tracks a run in MLflow; empty without an address."""
    if not settings.mlflow:
        return []
    if find_spec("mlflow") is None:  # MONAI's handler would only fail in the middle of a run
        # The message leaves out the address, which may hold a password.
        msg = (
            "mlflow must be empty if MLflow is not installed; got an address. Install it: pip "
            "install 'esp-medsam[train]'."
        )
        raise OptionError(msg)
    folder = Path(settings.output_dir).absolute()
    place = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    shared: dict[str, Any] = {
        "tracking_uri": settings.mlflow,
        "experiment_name": EXPERIMENT,
        "run_name": f"{folder.name}-{place}",  # runs with the same name continue as one
    }
    if part == "validation":
        return [_open_handler(iteration_log=False, **shared)]
    plain = {
        name: getattr(settings, name)
        for name in ("batch_size", "learning_rate", "weight_decay", "decay", "seed")
    }
    return [
        _open_handler(
            output_transform=loss_of,
            tag_name="loss",
            experiment_param=plain,
            close_on_complete=True,
            **shared,
        )
    ]


class _Tracking(MLFlowHandler):
    """MONAI's handler, with this package's error if the first contact with a server fails.

    A run that is ended by an error or Ctrl-C does not stay RUNNING.
    """

    cur_run: Any  # MONAI's annotation says only None

    def attach(self, engine: Engine) -> None:
        """Register on a trainer or evaluator."""
        super().attach(engine)
        when_broken_off(engine, self.break_off)

    def start(self, engine: Engine) -> None:
        """Begin the run, or continue an unfinished one.

        Raises:
            OptionError: If the address cannot be reached.
        """
        try:
            super().start(engine)
            self.client.update_run(self.cur_run.info.run_id, "RUNNING")
        except Exception as error:  # of mlflow or its transport
            raise _not_opened(error) from error

    def break_off(self, engine: Engine, error: BaseException) -> None:
        """End the run as FAILED on an error, or as KILLED otherwise, such as on Ctrl-C."""
        del engine
        if self.cur_run is not None:
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
            with suppress(Exception):  # the server may be the cause
                self.client.set_terminated(self.cur_run.info.run_id, status)


def _open_handler(**options: Any) -> MLFlowHandler:
    try:
        return _Tracking(**options)
    except Exception as error:  # of mlflow or its transport
        raise _not_opened(error) from error


def _not_opened(error: Exception) -> OptionError:
    # The message leaves out the address and the error's text: they may hold a password.
    return OptionError(
        "mlflow must be an address that MLflow can open, such as sqlite:///runs.db or a "
        f"server's; opening it ended in {type(error).__name__}. Folders need an older MLflow."
    )
