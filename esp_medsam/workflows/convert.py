"""Turn an official checkpoint into one with our names, which needs no knowledge of its origin."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from esp_medsam.errors import (
    CheckpointError,
    ModalityError,
    OptionError,
    OutputError,
    OutputExistsError,
)
from esp_medsam.io.atomic import atomic_file, clear_temporaries
from esp_medsam.io.weights_record import check_sidecar
from esp_medsam.networks import ESPMedSAM
from esp_medsam.networks.checkpoints import (
    from_delightsam,
    from_mobilesam,
    from_sam,
    load_checkpoint,
)
from esp_medsam.regular_file import open_regular
from esp_medsam.workflows.weights import record_weights, write_state_dict


ORIGINS = ("delightsam", "mobilesam", "sam")
"""Whose checkpoints can be converted."""


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
        origin: One of ``ORIGINS``.
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
    if origin not in ORIGINS:
        msg = f"from must be one of {', '.join(ORIGINS)}; got {origin!r}."
        raise OptionError(msg)
    if origin == "delightsam" and modality is None:
        msg = "modality must be given for a De-LightSAM checkpoint, which does not say its own."
        raise ModalityError(msg)
    if origin != "delightsam" and modality is not None:
        msg = f"modality must be left out for {origin}, whose weights belong to none."
        raise OptionError(msg)
    target = Path(output)
    _check_regular(source)
    _refuse_input(Path(source), target)
    _refuse_existing(target, overwrite)
    check_sidecar(target)
    found, state_dict, network = _convert(
        origin, load_checkpoint(source), modality, os.fspath(source)
    )
    clear_temporaries(target.parent)
    with atomic_file(target) as file:
        _refuse_existing(target, overwrite)
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
        return "MobileSAM image encoder and mask decoder", shared, None
    assert modality is not None, "checked before"
    network = from_delightsam(theirs, modality, source=source)
    return f"De-LightSAM network for {modality}", network.state_dict(), network


def _check_regular(source: str | os.PathLike[str]) -> None:
    """Refuse a pipe, which torch would wait for, and what else is no file."""
    try:
        open_regular(source).close()
    except FileNotFoundError:  # told where it is loaded
        return
    except OSError as error:
        msg = f"IN must be a file of weights; {os.fspath(source)} cannot be read: {error.strerror}."
        raise CheckpointError(msg) from error


def _refuse_input(source: Path, target: Path) -> None:
    try:
        is_same = source.samefile(target)  # through links, and of two names of one file
    except OSError:  # one of them is not there
        return
    if is_same:
        msg = f"OUT must be another file than IN; {target} is {source} itself. Name another file."
        raise OutputError(msg)


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if os.path.lexists(target) and not overwrite:
        msg = f"{target} must not exist; it does. Name another file, or give --overwrite."
        raise OutputExistsError(msg)
