"""Prepare the folder of the app, which MONAI Label's server takes as ``--app``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from esp_medsam.errors import OptionError, WeightsNotFoundError
from esp_medsam.integrations.monai_label.failed import write_failed
from esp_medsam.integrations.monai_label.settings import (
    BUNDLE,
    SETTINGS,
    TEMPORARY,
    LabelSettings,
)
from esp_medsam.io.atomic import atomic_file, output_error
from esp_medsam.io.weights_record import check_hash, read_weights_record
from esp_medsam.workflows.bundle import WEIGHTS
from esp_medsam.workflows.request import read_request
from esp_medsam.workflows.verdicts import Verdict


MAIN = "from esp_medsam.integrations.monai_label.app import EspMedSamApp  # noqa: F401\n"
"""Content of ``main.py``, where MONAI Label looks for the app's class."""

AT_START = """\
import logging

from esp_medsam.integrations.monai_label.stand_in import install

install()
for name in ("monailabel", "__main__"):  # MONAI Label's other lines name images and paths
    logging.getLogger(name).setLevel(logging.ERROR)
"""
"""Content of ``sitecustomize.py``, which Python runs at its start, in processes that the server
starts too."""

PACKAGE = Path(__file__).parents[2]
"""Folder of this package, which the server imports from a copy."""

LIBRARY = "lib"
"""Name of the folder in the app's that Python must import from."""

LOGGING = "logging.json"


def prepare_app(
    folder: Path,
    settings: LabelSettings,
    bundle: Path | None = None,
    *,
    trust_config: bool = False,
    verdicts: Sequence[Verdict] = (),
) -> None:
    """Write all that the app needs into its folder; weights that training made there stay.

    Args:
        folder: The app's folder: new, empty or an app's.
        settings: Settings of the app.
        bundle: The bundle to serve; None for the installed one.
        trust_config: Whether the configs of a foreign bundle may run code.
        verdicts: Verdicts on results; images whose masks failed are offered first.

    Raises:
        OptionError: If the folder holds something else, or the bundle is none, or its configs could
            run code and are not trusted.
        DeviceError: If the device is called as none can be.
        WeightsNotFoundError: If the bundle has no weights.
        CheckpointHashError: If the bundle's weights are not those its metadata states.
        OutputError: If the folder cannot be written.
    """
    source = read_request(bundle, trust_config=trust_config, device=settings.device).root
    _check_weights(source / WEIGHTS)
    try:
        if folder.exists() and not (folder / SETTINGS).is_file() and any(folder.iterdir()):
            msg = f"app must be a new or empty folder, or one of an app; {folder} is not."
            raise OptionError(msg)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it will hold patients' images
        settings.write(folder)
        write_failed(folder, verdicts)
        for name in (LIBRARY, "logs", "model"):
            (folder / name).mkdir(exist_ok=True)
        temporary = folder / TEMPORARY
        shutil.rmtree(temporary, ignore_errors=True)  # images of requests that were broken off
        temporary.mkdir(mode=0o700)
        _copy(source, folder / BUNDLE)
        _copy(PACKAGE, folder / LIBRARY / "esp_medsam")
        _write(folder / "main.py", MAIN)
        _write(folder / LIBRARY / "sitecustomize.py", AT_START)
        _write(folder / LOGGING, json.dumps(logging_config(folder / "logs" / "app.log"), indent=1))
    except OSError as error:
        raise output_error(folder, error) from error


def logging_config(path: Path) -> dict[str, object]:
    """Return the configuration of the server's log, without lines that name images or requests."""
    handler = {"formatter": "line", "encoding": "utf-8", "filename": str(path)}
    rotated = {"class": "logging.handlers.RotatingFileHandler", "maxBytes": 2**20}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": "line"},
            "file": {**rotated, **handler, "backupCount": 5},
        },
        "root": {"level": "WARNING", "handlers": ["console", "file"]},
        "loggers": {
            "esp_medsam": {"level": "INFO"},
            # Its lines of level INFO, and some warnings, name images, paths and parameters.
            "monailabel": {"level": "ERROR"},
            "uvicorn": {"level": "WARNING"},
            "timeloop": {"level": "WARNING", "propagate": False},
            # Lines of tasks, which clients can ask for, and tracebacks, whose texts name files.
            **{f"task_{kind}": {"level": "ERROR"} for kind in ("train", "scoring", "batch_infer")},
            "uvicorn.error": {"level": "CRITICAL"},
        },
    }


def _check_weights(weights: Path) -> None:
    if not weights.is_file():
        msg = f"bundle must hold weights; there are none at {weights}."
        raise WeightsNotFoundError(msg)
    record = read_weights_record(weights)
    if record is not None:
        check_hash(weights, record)


def _copy(source: Path, target: Path) -> None:
    """Copy a folder in the place of another; a broken off copy leaves no half of one there."""
    new = target.with_name(f".{target.name}-new")
    shutil.rmtree(new, ignore_errors=True)
    skipped = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(source, new, ignore=skipped)
    shutil.rmtree(target, ignore_errors=True)
    new.rename(target)


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())
