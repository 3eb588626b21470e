"""Weights that training starts from."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from esp_medsam.io.weights_record import check_hash, read_weights_record
from esp_medsam.networks import ESPMedSAM
from esp_medsam.networks.checkpoints import (
    held_modalities,
    load_checkpoint,
    load_grown,
    load_shared,
)
from esp_medsam.workflows.weights import check_weights


logger = logging.getLogger(__name__)


def start_from(network: ESPMedSAM, weights: str | Path | None) -> ESPMedSAM:
    """Return the network with its starting weights loaded.

    Args:
        network: Freshly initialized network.
        weights: State dict of the same design, with fewer or more modalities and targets than the
            network; or the output of ``esp-medsam convert --from mobilesam``, which holds no
            controllers. Whatever the file lacks stays fresh, with new experts silenced. None or
            empty starts from scratch.

    Raises:
        InputNotFoundError: If there is no such file.
        CheckpointError: If the file is not a checkpoint, does not fit, or contradicts its record.
    """
    if weights:
        check_weights(weights, "pretrained")
        record = read_weights_record(weights)
        if record is not None:
            check_hash(weights, record)
        state_dict, source = load_checkpoint(weights), os.fspath(weights)
        if held_modalities(state_dict):
            fresh, left_out = load_grown(network, state_dict, source=source)
            told = f"fresh: {', '.join(fresh) or 'nothing'}"
            told += f"; left out: {', '.join(left_out)}" if left_out else ""
            logger.info("Training starts from %s; %s.", source, told)
        else:
            load_shared(network, state_dict, silence_experts=True, source=source)
            logger.info("Training starts from %s for all modalities.", source)
    return network
