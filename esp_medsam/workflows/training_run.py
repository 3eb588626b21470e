"""Run a training from its configs to its end."""

from __future__ import annotations

import logging

from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.request import Request


def run_training(request: Request, section: str = "run") -> None:
    """Build what ``train.yaml`` says, with what is asked for in it, and run it to the end.

    Args:
        request: What :func:`~esp_medsam.workflows.train_request.read_training` returned.
        section: What of the config is run: ``run``, or ``embed`` of a distillation.

    Raises:
        EspMedSamError: If something of it is not usable; MONAI wraps what it meets while building,
            see :func:`esp_medsam.errors.explain`.
    """
    # ignite logs each exception, too, which the caller tells in one line.
    logging.getLogger("ignite.engine.engine").setLevel(logging.CRITICAL)
    parser = read_config(request)
    for part in ("initialize", section, "finalize"):
        for position in range(len(parser.get(part, []))):
            if "install_excepthook" not in str(parser[f"{part}#{position}"]):
                parser.get_parsed_content(f"{part}#{position}")
