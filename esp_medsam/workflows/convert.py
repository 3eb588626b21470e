"""Convert an official checkpoint to this package's parameter names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from esp_medsam.io.atomic import atomic_file, clear_temporaries
from esp_medsam.io.weights_record import check_sidecar
from esp_medsam.networks import ESPMedSAM
from esp_medsam.networks.checkpoints import (
    from_delightsam,
    from_mobilesam,
    from_sam,
    load_checkpoint,
)
from esp_medsam.workflows.conversion import (
    check_conversion,
    refuse_existing,
    warn_of_another_mobilesam,
)
from esp_medsam.workflows.weights import record_weights, write_state_dict


def convert(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    origin: str,
    modality: str | None = None,
    overwrite: bool = False,
) -> str:
    """Write a converted checkpoint, and its record beside it, each atomically.

    Args:
        source: Official checkpoint.
        output: File to write, a plain state dict: for "delightsam", that of the released network;
            for "mobilesam", the parts that our modalities share (image encoder and parts of the
            mask decoder), under our network's names, to start training from; for "sam", that of
            segment_anything's ``ImageEncoderViT``.
        origin: One of :data:`~esp_medsam.workflows.conversion.ORIGINS`.
        modality: Modality of a De-LightSAM checkpoint, which the file itself does not state.
        overwrite: Whether ``output`` may be replaced.

    Returns:
        A short description of the content of ``source``.

    Raises:
        OptionError: If ``origin`` is unknown, or ``modality`` is given but does not apply.
        ModalityError: If ``modality`` is needed but not given, or is not a released one.
        WeightsNotFoundError: If ``source`` does not exist.
        CheckpointError: If ``source`` is not a checkpoint of ``origin``.
        OutputExistsError: If ``output`` exists and ``overwrite`` is not set, or a file that
            is not a record lies at the record's path.
        OutputError: If ``output`` cannot be written, or is ``source`` itself.
    """
    check_conversion(source, output, origin=origin, modality=modality, overwrite=overwrite)
    target = Path(output)
    check_sidecar(target)
    found, state_dict, network = _convert(
        origin, load_checkpoint(source), modality, os.fspath(source)
    )
    clear_temporaries(target.parent)
    with atomic_file(target) as file:
        refuse_existing(target, overwrite)
        write_state_dict(state_dict, file)
    record_weights(target, network)
    return found


def _convert(
    origin: str, theirs: Mapping[str, Tensor], modality: str | None, source: str
) -> tuple[str, dict[str, Tensor], ESPMedSAM | None]:
    """Return a description, the state dict, and the network if the checkpoint is complete."""
    if origin == "sam":
        checkpoint = from_sam(theirs, source=source)
        return f"SAM image encoder {checkpoint.variant.name}", checkpoint.state_dict, None
    if origin == "mobilesam":
        shared = from_mobilesam(theirs, source=source)
        warn_of_another_mobilesam(source)
        return "MobileSAM image encoder and mask decoder", shared, None
    assert modality is not None, "checked before"
    network = from_delightsam(theirs, modality, source=source)
    return f"De-LightSAM network for {modality}", network.state_dict(), network
