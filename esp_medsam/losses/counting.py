"""Normalize sums over a batch that is shared by several processes."""

import torch
import torch.distributed as dist
from torch import Tensor


def mean_count(known: Tensor) -> Tensor:
    """Return the average number of known targets per process; see :func:`mean_total`.

    Args:
        known: Which targets are known, bool, ``(B, T)`` or a row of it.
    """
    return mean_total(known.sum().float(), least=1.0)


def mean_total(total: Tensor, least: float) -> Tensor:
    """Return the mean over all processes of the number that each divides its sums by, a scalar.

    Gradients are averaged over the processes, so they come out as if one process had divided the
    sum over the whole batch by its total, however unevenly it is spread. All processes must call
    this function together. Without a process group, the result is the total itself.

    Args:
        total: Total of this process; no gradient flows back into it.
        least: Smallest total of all processes together, so that nothing is divided by 0.
    """
    total = total.detach().clone()
    processes = 1
    if dist.is_available() and dist.is_initialized():
        processes = dist.get_world_size()
        dist.all_reduce(total)
    return torch.clamp(total, min=least) / processes
