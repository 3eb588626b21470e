"""The encoder in PyTorch, compiled, or as a graph that a GPU replays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from esp_medsam.runtimes.encoder_graph import EncoderGraph, Engine
from esp_medsam.runtimes.store import Store


def build_compiled(graph: EncoderGraph, example: Tensor, store: Store) -> Engine:
    """Return the engine of ``torch.compile``, which takes minutes at its first call.

    Arguments as of :class:`~esp_medsam.runtimes.kinds.Build`.
    """
    del example, store
    compiled: Engine = torch.compile(graph, dynamic=False)
    return compiled


def build_cuda_graph(graph: EncoderGraph, example: Tensor, store: Store) -> Engine:
    """Return an engine that replays what a GPU did for one shape, without launching each kernel.

    Arguments as of :class:`~esp_medsam.runtimes.kinds.Build`.
    """
    del store

    def forward(image: Tensor) -> tuple[Tensor, ...]:  # a module would be changed by the capture
        return tuple(graph(image))

    with torch.cuda.device(example.device):
        replay: Any = torch.cuda.make_graphed_callables(forward, (example.clone(),))

    def run(image: Tensor) -> Sequence[Tensor]:
        with torch.cuda.device(image.device):
            return [each.clone() for each in replay(image)]  # the next one writes to the same place

    return run
