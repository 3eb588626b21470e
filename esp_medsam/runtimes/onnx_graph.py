"""The encoder as an ONNX model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from esp_medsam.quiet import quietly


OPSET = 20
"""Version of ONNX's operators: the first with GELU as one of them."""


def onnx_of(
    module: nn.Module, example: Tensor, names: tuple[str, Sequence[str]] | None = None
) -> bytes:
    """Return a module as an ONNX model with fixed shapes, which takes seconds.

    Args:
        module: A module of tensors in evaluation mode.
        example: Its input, of the shape that the model takes.
        names: Names of the input and of the outputs; None leaves them to the exporter.
    """
    with torch.no_grad(), quietly():
        program = torch.onnx.export(
            module,
            (example,),
            input_names=None if names is None else [names[0]],
            output_names=None if names is None else names[1],
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None, "it is made in memory"
    content: bytes = program.model_proto.SerializeToString()
    return content
