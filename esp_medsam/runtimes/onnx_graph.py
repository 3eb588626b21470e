"""The encoder as an ONNX model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


OPSET = 20
"""Version of ONNX's operators: the first with GELU as one of them."""


def onnx_of(module: nn.Module, example: Tensor) -> bytes:
    """Return a module as an ONNX model with fixed shapes, which takes seconds.

    Args:
        module: A module of tensors in evaluation mode.
        example: Its input, of the shape that the model takes.
    """
    with torch.no_grad(), _silent():
        program = torch.onnx.export(
            module, (example,), dynamo=True, opset_version=OPSET, verbose=False
        )
    assert program is not None, "it is made in memory"
    content: bytes = program.model_proto.SerializeToString()
    return content


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the exporter's remarks about its own code to itself."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
