"""Choose a device, and fall back when its memory runs out."""

from __future__ import annotations

from typing import Any

import torch

from esp_medsam.errors import DeviceError, says_out_of_memory


ON_A_GPU = 4
"""Slices per forward pass on a GPU. On a CPU, several take as long as one after the other, and more
memory."""


def device_of(name: str | torch.device) -> torch.device:
    """Return a device that exists on this machine.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or a device; MONAI Label sends strings.

    Raises:
        DeviceError: If the name is invalid, or this machine has no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        msg = f"device must be cpu, cuda, cuda:<index> or mps; got {name!r}."
        raise DeviceError(msg) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        msg = f"device must exist on this machine, which has {count} CUDA devices; got {device}."
        raise DeviceError(msg)
    if device.type == "mps" and not torch.backends.mps.is_available():
        msg = f"device must exist on this machine; got {device}."
        raise DeviceError(msg)
    return device


class Placement:
    """Device and slice batch of one call, lowered step by step when memory runs out.

    As a context manager, it moves the network back to the device where it started.

    Args:
        network: The network; moved if it has a ``to`` method.
        device: Device to run on; None means where the network's parameters are.
        slice_batch: Initial number of slices per forward pass; None chooses it by the device.
    """

    def __init__(self, network: Any, device: torch.device | None, slice_batch: int | None) -> None:
        self._network = network
        self._home = _device_of_parameters(network)
        self._start = device or self._home or torch.device("cpu")
        self.device = self._start
        self.slice_batch = slice_batch or (1 if self.device.type == "cpu" else ON_A_GPU)
        self._went_on: torch.device | None = None

    def __enter__(self) -> Placement:
        self._move(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        if self._home is not None and self.device != self._start:
            self._move(self._start)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings for the user: one line at most."""
        if self._went_on is None:
            return ()
        change = f"went on with slice_batch={self.slice_batch} on {self._went_on}"
        return (f"Out of memory on {self._start}: {change}.",)

    def relieve(self, error: RuntimeError) -> None:
        """Halve the slice batch, then fall back to the CPU; re-raise errors other than memory."""
        if not is_out_of_memory(error):
            raise error
        if self.slice_batch > 1:
            self.slice_batch //= 2
        elif self.device.type != "cpu":
            self._move(torch.device("cpu"))
        else:
            raise error
        self._went_on = self.device
        if self._start.type == "cuda":
            torch.cuda.empty_cache()

    def _move(self, device: torch.device) -> None:
        """Move the network to a device, if it can be moved."""
        self.device = device
        if hasattr(self._network, "to") and not _is_on(self._network, device):
            self._network.to(device)


def _is_on(network: Any, device: torch.device) -> bool:
    """Whether a network is where a device says; ``cuda`` alone is the current one."""
    held = _device_of_parameters(network)
    if held is None or held.type != device.type:
        return False
    wanted: int | None = device.index
    if wanted is None and device.type == "cuda":
        wanted = torch.cuda.current_device()
    return wanted is None or wanted == held.index


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device's memory ran out."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and says_out_of_memory(error)
    )


def _device_of_parameters(network: Any) -> torch.device | None:
    """Return the device of a network's first parameter; None without parameters."""
    if not hasattr(network, "parameters"):
        return None
    parameter = next(iter(network.parameters()), None)
    return None if parameter is None else parameter.device
