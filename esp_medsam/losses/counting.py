"""Normalize sums over a batch that several processes share."""

import torch
import torch.distributed as dist
from torch import Tensor


def mean_count(known: Tensor) -> Tensor:
    """Return the number of known targets a process has on average; see :func:`mean_total`.

    Args:
        known: Which targets are known, bool, ``(B, T)`` or a row of them.
    """
    return mean_total(known.sum().float(), least=1.0)


def mean_total(total: Tensor, least: float) -> Tensor:
    """Return the mean over all processes of what each has to divide its sums by, a scalar.

    Gradients are averaged over the processes, and so come out as if one process had divided the sum
    over the whole batch by its total, however unevenly it is spread. All processes must call it
    together. Without a process group it is the total itself.

    Args:
        total: This process's; nothing flows back into it.
        least: Of all together, so that nothing is divided by 0.
    """
    total = total.detach().clone()
    processes = 1
    if dist.is_available() and dist.is_initialized():
        processes = dist.get_world_size()
        dist.all_reduce(total)
    return torch.clamp(total, min=least) / processes
