"""The encoder in ONNX Runtime, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import onnxruntime
import torch
from torch import Tensor

from esp_medsam.runtimes.encoder_graph import EncoderGraph, Engine, one_by_one
from esp_medsam.runtimes.onnx_graph import onnx_of
from esp_medsam.runtimes.store import Store


_ERRORS_ONLY = 3
"""Severity of ONNX Runtime's log from which it is shown."""


def build(graph: EncoderGraph, example: Tensor, store: Store) -> Engine:
    """Return the engine for one size; arguments as of :class:`~esp_medsam.runtimes.kinds.Build`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(
        store.bytes_of("onnx", lambda: onnx_of(graph, example)),
        options,
        providers=["CPUExecutionProvider"],
    )
    (name,) = (each.name for each in session.get_inputs())

    def run(image: Tensor) -> Sequence[Tensor]:
        found = session.run(None, {name: image.contiguous().numpy()})
        return [torch.from_numpy(each) for each in found]

    return one_by_one(run)
