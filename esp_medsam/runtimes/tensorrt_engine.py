"""The encoder in TensorRT, by MONAI's ``trt_compile``."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks import trt_compile
from torch import Tensor

from esp_medsam.runtimes.encoder_graph import EncoderGraph, Engine
from esp_medsam.runtimes.store import Store


def build(graph: EncoderGraph, example: Tensor, store: Store) -> Engine:
    """Return the engine, which is built at its first call and kept in a file.

    Arguments as of :class:`~esp_medsam.runtimes.kinds.Build`.
    """
    shape = list(example.shape)
    compiled = trt_compile(
        EncoderGraph(graph.network),  # MONAI changes the module, which has one engine then
        base_path=str(store.path_of("trt")),
        args={
            "precision": "fp32",
            "input_profiles": [{"image": [shape, shape, shape]}],
            "build_args": {"tf32": False},
        },
    )

    def run(image: Tensor) -> Sequence[Tensor]:
        outputs: Sequence[Tensor] = compiled(image)
        return outputs

    return run
