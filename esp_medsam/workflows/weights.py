"""Load weights into a network completely, or raise an error."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

import torch
from torch import Tensor, nn

from esp_medsam.errors import RuntimeCheckError, WeightsNotFoundError, not_found, one_line
from esp_medsam.inferers.calibration import calibration_path
from esp_medsam.io.atomic import atomic_file
from esp_medsam.io.weights_record import (
    TrainedWith,
    check_hash,
    metadata_of_bundle,
    pin_in_bundle,
    read_weights_record,
    write_weights_record,
)
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import ESPMedSAM, build_product
from esp_medsam.networks.checkpoints import load_checkpoint, load_into
from esp_medsam.networks.self_check import SelfCheck, differences, self_check
from esp_medsam.regular_file import open_regular
from esp_medsam.workflows.bundle import TABLE, WEIGHTS, check_free


logger = logging.getLogger(__name__)

Network = TypeVar("Network", bound=nn.Module)


def load_network(
    network: Network,
    ckpt_path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
) -> Network:
    """Load weights into a network for inference on a device.

    The weights are checked against their record: a bundle's metadata, or elsewhere a file beside
    the weights. The network must then reproduce the outputs recorded where the weights were made.

    Args:
        network: The network; changed in place.
        ckpt_path: File of a state dict.
        device: Device to run the network on.

    Returns:
        The same network in evaluation mode, float32, without gradients.

    Raises:
        WeightsNotFoundError: If the file does not exist.
        CheckpointError: If the file is not a checkpoint.
        CheckpointHashError: If the file is not the one that its record describes.
        CheckpointMismatchError: If the file does not hold exactly the network's parameters.
        RuntimeCheckError: If the network does not reproduce the recorded outputs.
    """
    check_weights(ckpt_path)
    record = read_weights_record(ckpt_path)
    if record is None:
        logger.warning(
            (
                "%s: no record of these weights was found, so it was not checked that they "
                "are the right ones."
            ),
            one_line(os.fspath(ckpt_path)),
        )
    else:
        check_hash(ckpt_path, record)
    load_into(network, load_checkpoint(ckpt_path), source=os.fspath(ckpt_path))
    network = network.float().eval().requires_grad_(False).to(device)
    if record is not None and record.self_check is not None:
        _check_computes(network, record.self_check, device)
    return network


def _check_computes(network: nn.Module, expected: SelfCheck, device: str | torch.device) -> None:
    """Refuse a machine on which the network computes different outputs."""
    assert isinstance(network, ESPMedSAM), "of others no self-check is written"
    wrong = differences(self_check(network), expected)
    if wrong:
        msg = (
            "This machine must compute the results that are recorded with the weights; on "
            f"{device} it does not, with torch {torch.__version__}, for {len(wrong)} targets, "
            f"such as {', '.join(wrong[:3])}. Use another device, or another version of torch."
        )
        raise RuntimeCheckError(msg)


def pin_weights(bundle: str | os.PathLike[str]) -> None:
    """Update the weights' record in a bundle's metadata after the weights were replaced.

    Args:
        bundle: Folder of the bundle, whose table of targets belongs to the weights.

    Raises:
        CheckpointError: If the weights do not fit the product's network and the table.
        OutputError: If the metadata cannot be written.
    """
    root = Path(bundle)
    network = _network_of(root, root / WEIGHTS)
    pin_in_bundle(root / WEIGHTS, self_check(network))


def place_weights(
    bundle: str | os.PathLike[str], weights: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Copy weights into a bundle and record them in its metadata.

    A calibration file beside the weights is copied with them; without one, the bundle's old
    calibration is removed.

    Args:
        bundle: Folder of the bundle, whose table of targets belongs to the weights.
        weights: File of the weights, checked against the record beside it if there is one.
        overwrite: Whether the bundle's existing weights may be replaced.

    Raises:
        OptionError: If the folder is not a bundle, or the file is already the bundle's own.
        WeightsNotFoundError: If the file does not exist.
        OutputExistsError: If the bundle has weights and ``overwrite`` is not set.
        CheckpointError: If the weights do not fit the product's network and the table, or do not
            match their record.
        OutputError: If the bundle cannot be written to.
    """
    check_free(bundle, weights, overwrite=overwrite)
    root = Path(bundle)
    metadata_of_bundle(root)  # before its weights are replaced
    record = read_weights_record(weights)
    if record is not None:
        check_hash(weights, record)
    network = _network_of(root, Path(weights))
    with open_regular(weights) as source, atomic_file(root / WEIGHTS) as file:
        shutil.copyfileobj(source, file)
    measured, place = calibration_path(weights), calibration_path(root / WEIGHTS)
    if measured.is_file():
        with open_regular(measured) as source, atomic_file(place) as file:
            shutil.copyfileobj(source, file)
    else:
        place.unlink(missing_ok=True)
    trained_with = None if record is None else record.trained_with
    pin_in_bundle(root / WEIGHTS, self_check(network), trained_with)


def _network_of(root: Path, weights: Path) -> ESPMedSAM:
    """Return the network of a bundle's table with these weights, for inference."""
    network = network_of_table(ModalityTable.read(root / TABLE))
    load_into(network, load_checkpoint(weights), source=str(weights))
    return network.float().eval()


def network_of_table(table: ModalityTable) -> ESPMedSAM:
    """Return the product's network for a table, with random weights."""
    return build_product(
        table.indices,
        table.target_names,
        adapted=table.adapted,
        presence=table.presence,
        prompt=table.prompt,
        image_encoder=table.image_encoder,
    )


def check_weights(ckpt_path: str | os.PathLike[str], argument: str = "ckpt_path") -> None:
    """Refuse a path without a weights file, before anything slow starts.

    Args:
        ckpt_path: The path.
        argument: Name of the argument, for messages.

    Raises:
        WeightsNotFoundError: If the file does not exist.
    """
    if not Path(ckpt_path).is_file():
        if argument != "ckpt_path":
            raise not_found(ckpt_path, argument=argument)
        msg = (
            f"ckpt_path must be an existing file; there is none at {os.fspath(ckpt_path)}. Name "
            "the bundle's folder with `bundle_root` (of esp-medsam: `bundle`), or the file with "
            "`ckpt_path`."
        )
        raise WeightsNotFoundError(msg)


def write_state_dict(state_dict: Mapping[str, Tensor], file: BinaryIO) -> None:
    """Save a plain dict of tensors; on a full disk, raise the system's own error."""
    try:
        torch.save({key: tensor.contiguous() for key, tensor in state_dict.items()}, file)
    except RuntimeError as error:  # torch fails on its own position after a failed write
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def record_weights(
    path: str | os.PathLike[str],
    network: ESPMedSAM | None = None,
    trained_with: TrainedWith | None = None,
) -> None:
    """Write the record of newly written weights, completely or not at all.

    Args:
        path: File of the weights.
        network: A network with exactly these weights, in evaluation mode and float32, whose outputs
            are recorded; None if the weights are only part of a network.
        trained_with: Image settings used in training; None if unknown.

    Raises:
        OutputError: If the record cannot be written.
    """
    check = None if network is None else self_check(network)
    write_weights_record(path, check, trained_with)
