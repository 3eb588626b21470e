"""A network, and a reader, that end or hang their process when a picture tells them to."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from esp_medsam.errors import TooLargeError
from esp_medsam.io import result_writer
from esp_medsam.modality import ModalityTable
from tests.support.networks import BrightIsForeground


TROUBLE = "TROUBLE"
"""Environment variable with a folder for the marks of what happened before."""

DIES, DIES_ONCE, LOSES_ONCE, HANGS, SLOW, FINE = 10, 20, 30, 40, 50, 200
DIES_LAST, HANGS_WRITING, TIGHT_ONCE = 60, 70, 80
"""Gray values of whole pictures, and what happens to a process that segments them."""


class Troubled(BrightIsForeground):
    """A network for pictures of one gray value, which tells what happens."""

    def __init__(self, table: ModalityTable) -> None:
        super().__init__(table)
        if (Path(os.environ[TROUBLE]) / "no more").exists():
            os._exit(7)

    def encode(self, image: Tensor, modality: Tensor | None) -> Tensor:
        """Do what the picture tells."""
        told = round(255 * float(image.mean()))
        if told == DIES or (told == DIES_ONCE and _is_first("died")):
            os.kill(os.getpid(), signal.SIGKILL)
        if told == LOSES_ONCE and _is_first("lost"):
            msg = "CUDA error: unspecified launch failure"
            raise torch.AcceleratorError(msg)
        if told == DIES_LAST:
            _is_first("no more")
            os.kill(os.getpid(), signal.SIGKILL)
        if told == TIGHT_ONCE and _is_first("tight"):
            msg = "picture must fit in memory; it does not."
            raise TooLargeError(msg)
        if told == HANGS:
            time.sleep(600)
        if told == HANGS_WRITING:
            patch.object(result_writer, "write_own_json", lambda *_: time.sleep(600)).start()
        if told == SLOW:
            time.sleep(1)
        return super().encode(image, modality)


class CrashOnRead:
    """A transform that crashes, as decoders do, on a file whose name says so."""

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Crash, or return the data."""
        if "crash" in Path(data["image"].path).name:
            os.kill(os.getpid(), signal.SIGSEGV)
        return data


def _is_first(name: str) -> bool:
    mark = Path(os.environ[TROUBLE]) / name
    if mark.exists():
        return False
    mark.touch()
    return True
