"""The real server of MONAI Label, as ``esp-medsam label`` starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import requests
import SimpleITK

from esp_medsam.integrations.monai_label.environment import default_environment, python_of


def skip_without_environment() -> None:
    """Skip the test where the server's environment was not made."""
    if not python_of(default_environment()).is_file():
        pytest.skip("needs the environment of `esp-medsam label --setup`")


class LabelServer:
    """One server on a loopback port.

    Args:
        app: The app's folder.
        studies: Folder of images, or address of a DICOMweb server.
        options: Further options of the command.
        environment: Further environment variables.
    """

    def __init__(
        self, app: Path, studies: str, *options: str, environment: dict[str, str] | None = None
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.app = app
        self.log = app.with_suffix(".log")
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        self.headers: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        program = Path(sys.executable).with_name("esp-medsam")
        self.command = [str(program), "label", "--studies", studies, "--app", str(app)]
        self.command += ["--port", str(self.port), "--device", "cpu", *options]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )
        for _ in range(600):
            try:
                self.get("/info/")
            except requests.ConnectionError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.2)
            else:
                return
        pytest.fail(f"The server does not start:\n{self.log.read_text()}")

    def kill(self) -> None:
        """End it at once, as a crash would, with the command that started it."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def get(self, path: str, **options: Any) -> requests.Response:
        """Return an answer."""
        return self.ask("GET", path, **options)

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Return an answer."""
        headers = {**self.headers, **options.pop("headers", {})}
        return requests.request(
            method, f"{self.url}{path}", headers=headers, timeout=300, **options
        )

    def infer(
        self, model: str, image: str = "", output: str = "image", **options: Any
    ) -> requests.Response:
        """Return the answer to a request for a segmentation."""
        path = f"/infer/{model}?image={image}&output={output}"
        return self.ask("POST", path, **options)


def labelmap(answer: requests.Response, folder: Path, ending: str = ".nii.gz") -> Any:
    """Return the array of an answer, in the axes of its file."""
    assert answer.status_code == 200, answer.text
    file = folder / f"answer{ending}"
    file.write_bytes(answer.content)
    if ending == ".png":
        return np.asarray(PIL.Image.open(file))
    image = SimpleITK.ReadImage(file)
    return SimpleITK.GetArrayFromImage(image).transpose()


def agreement(first: Any, second: Any) -> float:
    assert first.shape == second.shape
    return float((first == second).mean())


def until(is_so: Callable[[], bool], seconds: int = 10) -> None:
    """Wait until something is so; an answer arrives a little before the server tidies up."""
    for _ in range(10 * seconds):
        if is_so():
            return
        time.sleep(0.1)
    assert is_so()
