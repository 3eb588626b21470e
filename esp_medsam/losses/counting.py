"""What sums over known targets are divided by, where several processes share a batch."""

import torch
import torch.distributed as dist
from torch import Tensor


def mean_count(known: Tensor) -> Tensor:
    """Return the number of known targets a process has on average, a scalar.

    Gradients are averaged over the processes, and so come out as if one process had divided the sum
    over the whole batch by its count, however unevenly targets are known. All processes must call
    it together. Without a process group it is the count itself.

    Args:
        known: Which targets are known, bool, ``(B, T)`` or a row of them.
    """
    count = known.sum().float()
    processes = 1
    if dist.is_available() and dist.is_initialized():
        processes = dist.get_world_size()
        dist.all_reduce(count)
    return torch.clamp(count, min=1.0) / processes
