"""Weights into a network: all of them, or an error that names what does not fit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

import torch
from torch import Tensor, nn

from esp_medsam.errors import WeightsNotFoundError
from esp_medsam.networks.checkpoints import load_checkpoint, load_into


Network = TypeVar("Network", bound=nn.Module)


def load_network(
    network: Network,
    ckpt_path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
) -> Network:
    """Give a network its weights, for inference on a device.

    Args:
        network: The network; changed in place.
        ckpt_path: File of a state dict.
        device: Where the network is to run.

    Returns:
        The same network in evaluation mode, float32, without gradients.

    Raises:
        WeightsNotFoundError: If there is no such file.
        CheckpointError: If the file is no checkpoint.
        CheckpointMismatchError: If it does not hold exactly the network's parameters.
    """
    check_weights(ckpt_path)
    load_into(network, load_checkpoint(ckpt_path), source=os.fspath(ckpt_path))
    return network.float().eval().requires_grad_(False).to(device)


def check_weights(ckpt_path: str | os.PathLike[str]) -> None:
    """Refuse a path that holds no weights, before anything slow is done.

    Raises:
        WeightsNotFoundError: If there is no such file.
    """
    if not Path(ckpt_path).is_file():
        msg = f"ckpt_path must be a file of weights; got {os.fspath(ckpt_path)}. "
        msg += "Name the bundle's folder with --bundle_root (of esp-medsam: --bundle), "
        raise WeightsNotFoundError(msg + "or the file with --ckpt_path.")


def write_state_dict(state_dict: Mapping[str, Tensor], file: BinaryIO) -> None:
    """Save a plain dict of tensors; where the disk is full, say so as the system does."""
    try:
        torch.save({key: tensor.contiguous() for key, tensor in state_dict.items()}, file)
    except RuntimeError as error:  # torch stumbles over its own position after a failed write
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
