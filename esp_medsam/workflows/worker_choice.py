"""How many workers a run has, on which devices, and with how many threads."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from esp_medsam.inferers.device import device_of
from esp_medsam.memory import available_memory
from esp_medsam.modality import ALL


LEAST_THREADS = 2
"""Threads that a worker should have: a choice, between one network and many at a time."""

LEAST_MEMORY = 4 * 2**30
"""Bytes that a worker should have: a choice; what an image needs is checked when it is read."""

PER_GPU = 2
"""Workers of a GPU: one reads or writes while the network of the other is at work."""


@dataclass(frozen=True)
class WorkerChoice:
    """Workers of a run.

    Attributes:
        devices: Device of each; empty if the run needs none.
        threads: Number of threads of each.
    """

    devices: tuple[str, ...]
    threads: int

    @property
    def text(self) -> str:
        """The choice as a line of text."""
        count, devices = len(self.devices), ", ".join(dict.fromkeys(self.devices))
        each = "each " if count > 1 else ""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{count} worker{'s' if count > 1 else ''} on {devices}, {each}with {threads}"


def choose_workers(device: str | None, items: int | None, count: int | None) -> WorkerChoice:
    """Return the workers of a run.

    Without a given number: on the CPU as many as there are times two cores and 4 GiB of memory; on
    GPUs no more than that either, but at least one for each, and at most two. Always at least one,
    and at most one for each item.

    Args:
        device: Device of the run, or ``all`` for all GPUs; None means CUDA if there is a GPU.
        items: Number of items; None if it is not known yet.
        count: Number of workers that was asked for; None chooses it.

    Raises:
        DeviceError: If this machine has no such device.
    """
    if device == ALL:
        device_of("cuda")
        devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    else:
        devices = [device or ("cuda" if torch.cuda.is_available() else "cpu")]
        device_of(devices[0])
    cores = torch.get_num_threads()
    if count is None:
        count = min(cores // LEAST_THREADS, available_memory() // LEAST_MEMORY)
        if devices != ["cpu"]:
            most = PER_GPU if devices[0].startswith("cuda") else 1
            count = max(len(devices), min(count, most * len(devices)))
    count = max(1, count if items is None else min(count, items))
    chosen = tuple(devices[number % len(devices)] for number in range(count))
    return WorkerChoice(chosen, max(1, cores // count))
