"""Training in several processes (torchrun)."""

from __future__ import annotations

import os
import time

import torch
import torch.distributed as dist

from esp_medsam.errors import OptionError


_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_SECONDS_TO_LEAVE = 1.0  # milliseconds suffice if no core is busy


def join_processes() -> None:
    """Join the processes that torchrun started, over NCCL if there are GPUs, else over gloo.

    Raises:
        OptionError: If torchrun did not start this process.
    """
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        msg = f"multi_gpu_train.yaml must be run by torchrun; the environment lacks {missing[0]}. "
        raise OptionError(msg + "Leave it out to train in one process.")
    if torch.cuda.is_available():
        torch.cuda.set_device(local_device())
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def leave_processes() -> None:
    """Leave the processes that torchrun started, and give gloo's threads time to finish.

    A gloo thread releases the tensors of its last collective only after the caller continues, and
    needs the GIL for that. If the interpreter exits first, the thread aborts the process
    ("terminate called without an active exception"; PyTorch's pull request 179291). Sleeping
    releases the GIL.
    """
    dist.destroy_process_group()
    time.sleep(_SECONDS_TO_LEAVE)


def local_device() -> str:
    """Return the device of this process: its own GPU, or the CPU."""
    rank = os.environ.get("LOCAL_RANK", "0")
    return f"cuda:{rank}" if torch.cuda.is_available() else "cpu"


def is_first() -> bool:
    """Whether this process is the one that writes files: the first, or the only one."""
    return not dist.is_initialized() or dist.get_rank() == 0


def mean_over_processes(value: torch.Tensor) -> torch.Tensor:
    """Return the mean of a tensor over all processes, all of which must call this function."""
    if dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value
