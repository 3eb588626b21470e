"""Run a training from its configs to completion."""

from __future__ import annotations

import logging

from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.request import Request


def run_training(request: Request, section: str = "run") -> None:
    """Build what ``train.yaml`` describes, with the requested settings, and run it to completion.

    Args:
        request: Request from :func:`~esp_medsam.workflows.train_request.read_training`.
        section: Section of the config to run: ``run``, or ``embed`` for a distillation.

    Raises:
        EspMedSamError: If something in the request is unusable; MONAI wraps errors while building,
            see :func:`esp_medsam.errors.explain`.
    """
    # ignite also logs each exception, which the caller already reports in one line.
    logging.getLogger("ignite.engine.engine").setLevel(logging.CRITICAL)
    parser = read_config(request)
    for part in ("initialize", section, "finalize"):
        for position in range(len(parser.get(part, []))):
            if "install_excepthook" not in str(parser[f"{part}#{position}"]):
                parser.get_parsed_content(f"{part}#{position}")
