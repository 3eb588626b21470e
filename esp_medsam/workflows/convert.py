"""Convert an official checkpoint to this package's names."""

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
    """Write a converted checkpoint, and beside it what it must be, each whole or not at all.

    Args:
        source: Official checkpoint.
        output: File to write: a plain state dict. From "delightsam" that of the released network;
            from "mobilesam" what our modalities share, image encoder and parts of the mask
            decoder, under our network's names, to start training from; from "sam" that of
            segment_anything's ``ImageEncoderViT``.
        origin: One of :data:`~esp_medsam.workflows.conversion.ORIGINS`.
        modality: What a De-LightSAM checkpoint was trained on; it does not say so itself.
        overwrite: Whether ``output`` may be replaced.

    Returns:
        What was found in ``source``, in a few words.

    Raises:
        OptionError: If ``origin`` is unknown, or ``modality`` is given where it means nothing.
        ModalityError: If ``modality`` is needed and not given, or not a released one.
        WeightsNotFoundError: If ``source`` does not exist.
        CheckpointError: If ``source`` is not a checkpoint of ``origin``.
        OutputExistsError: If ``output`` exists and ``overwrite`` is not set, or what lies in the
            place of its record is none.
        OutputError: If it cannot be written, or is ``source`` itself.
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
    """Return what was found, its state dict, and its network where it is a whole one."""
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
