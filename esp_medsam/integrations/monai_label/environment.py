"""The environment that MONAI Label's server runs in, apart from the command's own.

MONAI Label 0.8.5 needs NumPy 1, which rules out Python 3.13, and much else that segmentation has
no use for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

from esp_medsam.cache_folder import cache_folder
from esp_medsam.errors import OptionError
from esp_medsam.integrations.monai_label.app_folder import LIBRARY
from esp_medsam.integrations.monai_label.settings import TEMPORARY, LabelSettings


REQUIREMENTS = Path(__file__).with_name("requirements-label.txt")

ENVIRONMENT_VARIABLE = "ESP_MEDSAM_LABEL_ENVIRONMENT"
"""Environment variable with the folder of the server's environment."""

NEWEST_PYTHON = (3, 12)
"""Newest Python that NumPy 1 has wheels for."""

SERVER = "esp_medsam.integrations.monai_label.server:app"


def default_environment() -> Path:
    """Return the folder of the environment if the user names none, or the variable does."""
    if named := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(named)
    return cache_folder() / "monai-label"


def python_of(environment: Path) -> Path:
    """Return the Python of an environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def set_up(environment: Path, *, python: Path | None = None, wheels: Path | None = None) -> None:
    """Create the environment, and install MONAI Label and what this package needs.

    Args:
        environment: Its folder.
        python: Python to create it with; None for the one that runs.
        wheels: Folder of wheels to install from, without a network; None for the usual index.

    Raises:
        OptionError: If the folder holds something else, the Python is too new, or the installation
            fails.
    """
    is_new = not environment.exists() or (environment.is_dir() and not any(environment.iterdir()))
    if not is_new and not (environment / "pyvenv.cfg").is_file():
        msg = f"environment must be a new folder, or an environment of Python; {environment} is "
        raise OptionError(msg + "something else.")
    if python is None:
        if sys.version_info[:2] > NEWEST_PYTHON:
            newest, own = (".".join(map(str, v)) for v in (NEWEST_PYTHON, sys.version_info[:2]))
            msg = f"python must be at most {newest} for MONAI Label, which needs NumPy 1; got "
            raise OptionError(msg + f"{own}. Name another one with --python.")
        venv.create(environment, with_pip=True)
    elif _status_of([str(python), "-m", "venv", str(environment)]):
        msg = f"python must be a Python that has the module venv; {python} is not."
        raise OptionError(msg)
    offline = [] if wheels is None else ["--no-index", "--find-links", str(wheels)]
    pip = [str(python_of(environment)), "-m", "pip", "install", "--disable-pip-version-check"]
    if _status_of([*pip, *offline, "--requirement", str(REQUIREMENTS)]):
        where = "the package index" if wheels is None else str(wheels)
        msg = f"environment must be installed from {where}; pip failed. Its lines above say why."
        raise OptionError(msg)


def server_python(environment: Path) -> Path:
    """Return the Python that the server runs in: this one, if it has MONAI Label.

    Raises:
        OptionError: If there is no environment.
    """
    if find_spec("monailabel") is not None:
        return Path(sys.executable)
    python = python_of(environment)
    if not python.is_file():
        msg = f"MONAI Label must be installed; {environment} holds no environment for it. Create "
        raise OptionError(msg + "it first: esp-medsam label --setup.")
    return python


def server_command(python: Path, app: Path, studies: str) -> list[str]:
    """Return the command that starts the server.

    Args:
        python: Python of the environment.
        app: The app's folder.
        studies: Folder of images, or address of a DICOMweb server.
    """
    settings = LabelSettings.read(app)
    return [
        *(str(python), "-m", "monailabel.main", "start_server"),
        *("--app", str(app), "--studies", studies),
        *("--host", settings.host, "--port", str(settings.port)),
        *("--uvicorn_app", SERVER, "--log_config", str(app / "logging.json")),
        *("--log_level", "warning"),
    ]


def server_environment(app: Path) -> dict[str, str]:
    """Return the environment variables of the server: no network, no sessions, its own folders."""
    own = {
        "MONAI_LABEL_APP_DIR": str(app),
        "MONAI_LABEL_SESSIONS": "false",
        "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "BUNDLE_DOWNLOAD_SRC": "ngc",  # a bundle in a folder is not looked for elsewhere
        "PYTHONPATH": str(app / LIBRARY),
        "TMPDIR": str(app / TEMPORARY),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return {**os.environ, **own}


def _status_of(command: list[str]) -> int:
    return subprocess.run(command, check=False).returncode
