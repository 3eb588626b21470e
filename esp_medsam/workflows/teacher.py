"""Load teachers to distill from: SAM, MobileSAM, a medical teacher, or a network of this package.

Nothing else imports segment_anything.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Literal

from torch import nn

from esp_medsam.errors import CheckpointError, OptionError, one_line
from esp_medsam.io.weights_record import TrainedWith, check_hash, read_weights_record
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import ESPMedSAM, build_product
from esp_medsam.networks.builders import (
    build_teacher,
    image_encoder_of,
)
from esp_medsam.networks.checkpoints import from_mobilesam, held_modalities, load_checkpoint
from esp_medsam.networks.sam_checkpoint import from_sam
from esp_medsam.networks.state_dicts import load_into
from esp_medsam.workflows.conversion import warn_of_another_mobilesam
from esp_medsam.workflows.teacher_network import (
    MobileSAMEncoder,
    OfAnyModality,
    OfItsModality,
    Teacher,
    WithMasks,
)
from esp_medsam.workflows.weights import check_weights, load_network, network_of_table


logger = logging.getLogger(__name__)

TeacherKind = Literal["sam", "mobilesam", "medical", "network"]

NETWORK_SIZE = (448, 448)
"""Input size that ``train.yaml`` trains with."""

SAM_SIZE = (1024, 1024)
SAM_MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
SAM_STD = (58.395 / 255, 57.12 / 255, 57.375 / 255)
"""Input of SAM and MobileSAM: longest side 1024, normalized, zero-padded to a square."""


def load_teacher(
    kind: TeacherKind,
    weights: str | os.PathLike[str],
    *,
    table: ModalityTable,
    input_size: Sequence[int] | None,
    pixel_mean: Sequence[float] | None = None,
    pixel_std: Sequence[float] | None = None,
    masks: bool = False,
    student_starts_from: str | None = None,
) -> Teacher:
    """Return a frozen teacher.

    Args:
        kind: "sam", an official checkpoint of SAM or one derived from it; "mobilesam", the official
            file; "medical", output of ``train_teacher.yaml``; "network", that of ``train.yaml``.
        weights: File of its weights.
        table: Modalities and targets of "medical" and "network".
        input_size: ``(H, W)`` that it was trained with. None takes the value in the record of a
            "network" or "medical", else the default: 448 x 448 for a "network", 1024 x 1024.
        pixel_mean: Mean per channel that it was trained with; None likewise, SAM's by default.
        pixel_std: Standard deviation per channel, likewise.
        masks: Whether it must give masks too. It must then be "medical" or "network" and have
            exactly the modalities and targets of ``table``; otherwise a "network" may have others.
        student_starts_from: Weights that the student starts from, if any.

    Raises:
        OptionError: If MobileSAM is to teach a student that starts from weights, SAM's size is
            given another value, or segment_anything is needed and not installed.
        InputNotFoundError: If the file does not exist.
        CheckpointError: If the file is not of that ``kind``.
    """
    if kind in ("sam", "mobilesam") and input_size is not None and tuple(input_size) != SAM_SIZE:
        msg = "teacher_input_size must be left out for SAM, which takes 1024 x 1024; "
        raise OptionError(msg + "got {} x {}.".format(*input_size))
    if kind == "mobilesam" and student_starts_from:
        msg = (
            "pretrained must be left out for the teacher MobileSAM; got "
            f"{student_starts_from}. A student that starts from MobileSAM's encoder learns "
            "nothing from it: use another teacher."
        )
        raise OptionError(msg)
    check_weights(weights, "teacher_weights")
    source = os.fspath(weights)
    given = {"input_size": input_size, "pixel_mean": pixel_mean, "pixel_std": pixel_std}
    size, mean, std = _input_of(kind, source, given)
    network: nn.Module
    if kind == "network":
        if masks:
            network = WithMasks(load_network(_network_with_masks_like(source, table), source))
        else:
            network = OfItsModality(_network_like(source, table))
    elif kind == "medical":
        medical = load_network(_medical_like(source, table), source)
        network = WithMasks(medical) if masks else OfItsModality(medical)
    elif kind == "mobilesam":
        warn_of_another_mobilesam(source)
        network = MobileSAMEncoder(from_mobilesam(load_checkpoint(source), source=source))
    else:
        network = OfAnyModality(load_sam_encoder(source))
    # Parameter names do not say what the masks mean.
    rows = f" {json.dumps(table.target_names)} {table.prompt}" if masks else ""
    return Teacher(
        network,
        input_size=size,
        pixel_mean=mean,
        pixel_std=std,
        name=f"{kind}{rows}",
    )


def _input_of(kind: TeacherKind, weights: str, given: Mapping[str, Any]) -> TrainedWith:
    """Return the image settings a teacher was trained with: as given, as recorded, or by default.

    A warning is logged if a given value differs from the recorded one.
    """
    record = read_weights_record(weights) if kind in ("network", "medical") else None
    recorded = None if record is None else record.trained_with
    usual = TrainedWith(NETWORK_SIZE if kind == "network" else SAM_SIZE, SAM_MEAN, SAM_STD)
    asked = {name: tuple(value) for name, value in given.items() if value is not None}
    for name, value in asked.items():
        if recorded is not None and value != (known := getattr(recorded, name)):
            message = "teacher_%s is %s; %s was trained with %s."
            logger.warning(message, name, value, one_line(weights), known)
    return (recorded or usual)._replace(**asked)


def load_sam_encoder(weights: str | os.PathLike[str]) -> nn.Module:
    """Return segment_anything's image encoder with the weights of a checkpoint of SAM.

    Args:
        weights: An official checkpoint, ViT-B, L or H, or one derived from it.

    Raises:
        OptionError: If segment_anything is not installed.
        InputNotFoundError: If the file does not exist.
        CheckpointError: If the file is not a checkpoint of SAM.
    """
    check_weights(weights, "sam_weights")
    checkpoint = from_sam(load_checkpoint(weights), source=os.fspath(weights))
    encoder = sam_encoder(checkpoint.variant.name)
    load_into(encoder, checkpoint.state_dict, source=os.fspath(weights))
    return encoder


def sam_encoder(variant: str) -> nn.Module:
    """Return segment_anything's image encoder, freshly initialized.

    Args:
        variant: "vit_b", "vit_l" or "vit_h".

    Raises:
        OptionError: If segment_anything is not installed.
    """
    try:
        from segment_anything import sam_model_registry
    except ImportError as error:
        msg = (
            "teacher must be available; SAM needs the package segment-anything, whose import "
            f"failed: {error}. Install it: pip install 'esp-medsam[teacher]'."
        )
        raise OptionError(msg) from error
    encoder: nn.Module = sam_model_registry[variant]().image_encoder
    return encoder


def build_medical_teacher(weights: str | os.PathLike[str], table: ModalityTable) -> ESPMedSAM:
    """Return a medical teacher to be trained, around the encoder of a SAM checkpoint.

    Args:
        weights: See :func:`load_sam_encoder`.
        table: Modalities and targets.

    Raises:
        EspMedSamError: See :func:`load_sam_encoder`.
    """
    return build_teacher(load_sam_encoder(weights), table.indices, table.target_names)


_MEDICAL = "image_encoder.encoder."


def _medical_like(weights: str, table: ModalityTable) -> ESPMedSAM:
    """Return a medical teacher whose size matches the weights."""
    encoder = {
        key.replace(_MEDICAL, "image_encoder.", 1): value
        for key, value in load_checkpoint(weights).items()
        if key.startswith(_MEDICAL)
    }
    variant = from_sam(encoder, source=weights).variant.name
    return build_teacher(sam_encoder(variant), table.indices, table.target_names)


def _network_with_masks_like(weights: str, table: ModalityTable) -> ESPMedSAM:
    """Return a network with a table's targets and with the encoder and heads found in weights."""
    names = load_checkpoint(weights).keys()
    has_presence = any(name.startswith("presence.") for name in names)
    own = replace(table, image_encoder=image_encoder_of(names), presence=has_presence)
    return network_of_table(own)


def _network_like(weights: str, table: ModalityTable) -> ESPMedSAM:
    """Return a network with the image encoder found in weights; all other parts are fresh.

    A teacher has its own targets, so the targets in the student's table do not matter.
    """
    record = read_weights_record(weights)
    if record is not None:
        check_hash(weights, record)
    state_dict = load_checkpoint(weights)
    held = held_modalities(state_dict)
    if not held:
        msg = f"teacher_weights must hold modality controllers; {weights} holds none."
        raise CheckpointError(msg)
    free = count(max(table.indices.values()) + 1)
    modalities = {name: table.indices[name] if name in table else next(free) for name in held}
    targets = {name: ["any"] for name in held}
    network = build_product(modalities, targets, image_encoder=image_encoder_of(state_dict))
    prefix = "image_encoder."
    own = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
    load_into(network.image_encoder, own, source=weights)
    return network.float().eval()
