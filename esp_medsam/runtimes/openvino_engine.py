"""The encoder in OpenVINO, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import openvino
import torch
from torch import Tensor

from esp_medsam.runtimes.encoder_graph import EncoderGraph, Engine, one_by_one
from esp_medsam.runtimes.onnx_graph import onnx_of
from esp_medsam.runtimes.store import Store


def build(graph: EncoderGraph, example: Tensor, store: Store) -> Engine:
    """Return the engine for one size; arguments as of :class:`~esp_medsam.runtimes.kinds.Build`."""
    core = openvino.Core()
    model = core.read_model(store.bytes_of("onnx", lambda: onnx_of(graph, example)), b"")
    compiled = core.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",  # where there are units, bfloat16 is its default
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # workers would be pinned to the same cores
        },
    )
    count = len(compiled.outputs)

    def run(image: Tensor) -> Sequence[Tensor]:
        found = compiled([image.contiguous().numpy()])
        return [torch.from_numpy(found[index]) for index in range(count)]

    return one_by_one(run)
