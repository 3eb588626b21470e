"""Choose precision, threads and memory for training."""

from __future__ import annotations

import logging
import os
from typing import Literal

import torch

from esp_medsam.allocator import keep_memory
from esp_medsam.inferers.precision import amp_of, has_bfloat16_units


logger = logging.getLogger(__name__)


def use_processor(
    device: str | torch.device,
    *,
    amp: bool | Literal["auto"],
    num_workers: int,
) -> bool:
    """Set threads and memory for training, log them, and return whether to use bfloat16.

    On a CPU, the training step shares the cores with the loader's workers, which take a thread
    each. OMP_NUM_THREADS overrides the count. Another number of threads may round sums differently.

    Args:
        device: Device that the network trains on.
        amp: Whether to compute in bfloat16; ``auto`` does if the device has units for it.
        num_workers: Number of the loader's workers.
    """
    in_bfloat16 = (
        has_bfloat16_units(device) if amp == "auto" else amp_of(amp, device, what="training")
    )
    told = ["bfloat16" if in_bfloat16 else "float32"]
    if torch.device(device).type == "cpu":
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(threads_for(_cores(), num_workers))
        told.append(f"threads {torch.get_num_threads()}, workers {num_workers}")
        if keep_memory():
            told.append("freed memory kept")
    logger.info("Training on %s: %s.", device, ", ".join(told))
    return in_bfloat16


def threads_for(cores: int, num_workers: int) -> int:
    """Return the number of threads for the step beside workers that take one each."""
    return max(1, cores - num_workers)


def _cores() -> int:
    """Return the number of cores that the process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
