"""Files of a network for programs without this package: written, and read back to be checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esp_medsam.quiet import quietly
from esp_medsam.runtimes.modality_graph import INPUT, OUTPUTS, ModalityGraph
from esp_medsam.runtimes.onnx_graph import onnx_of
from esp_medsam.runtimes.packages import ONNX, check_packages


Run = Callable[[npt.NDArray[np.float32]], Sequence[npt.NDArray[np.float32]]]
"""Computes a graph's outputs from its input, with nothing but the file."""


@dataclass(frozen=True, kw_only=True)
class ExportFormat:
    """A kind of file.

    Attributes:
        name: Its name.
        suffix: What its name ends in.
        packages: Packages that write it.
        extra: Extra of this package that installs them; empty if it is not ours to install.
        write: Writes the graph for inputs like an example to a path.
        read: Returns what computes the file's outputs; raises where this machine cannot run it.
        triton: Name of its backend in NVIDIA Triton, and of the file there; None if it has none.
    """

    name: str
    suffix: str
    packages: tuple[str, ...] = ()
    extra: str = ""
    write: Callable[[ModalityGraph, Tensor, Path], None]
    read: Callable[[Path], Run]
    triton: tuple[str, str] | None = None

    def check(self) -> None:
        """Refuse a format whose packages are missing.

        Raises:
            OptionError: If one is.
        """
        check_packages(f"to {self.name}", self.packages, self.extra)


def _onnx(graph: ModalityGraph, example: Tensor) -> bytes:
    return onnx_of(graph, example, (INPUT, graph.output_names))


def _write_onnx(graph: ModalityGraph, example: Tensor, path: Path) -> None:
    path.write_bytes(_onnx(graph, example))


def _read_onnx(path: Path) -> Run:
    onnxruntime = import_module("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda image: [np.asarray(each) for each in session.run(None, {INPUT: image})]


def _write_openvino(graph: ModalityGraph, example: Tensor, path: Path) -> None:
    openvino: Any = import_module("openvino")
    model = openvino.Core().read_model(_onnx(graph, example), b"")
    openvino.save_model(model, str(path), compress_to_fp16=False)


def _read_openvino(path: Path) -> Run:
    openvino: Any = import_module("openvino")
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", precise)
    return lambda image: list(compiled([image]).values())


def _traced(graph: ModalityGraph, example: Tensor) -> Any:
    trace: Any = torch.jit.trace
    with torch.no_grad(), quietly():
        # A function: of a module, the methods for TorchScript would be compiled too.
        return trace(lambda image: tuple(graph(image)), example, check_trace=False)


def _write_torchscript(graph: ModalityGraph, example: Tensor, path: Path) -> None:
    _traced(graph, example).save(str(path))


def _read_torchscript(path: Path) -> Run:
    load: Any = torch.jit.load
    with quietly():
        module = load(str(path), map_location="cpu")

    def run(image: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        with torch.no_grad():
            return [each.numpy() for each in module(torch.from_numpy(image))]

    return run


def _write_tensorrt(graph: ModalityGraph, example: Tensor, path: Path) -> None:
    backend: Any = import_module("polygraphy.backend.trt")
    config = backend.CreateConfig(tf32=False)
    network = backend.network_from_onnx_bytes(_onnx(graph, example))
    path.write_bytes(bytes(backend.engine_bytes_from_network(network, config=config)))


def _read_tensorrt(path: Path) -> Run:
    backend: Any = import_module("polygraphy.backend.trt")
    engine = backend.engine_from_bytes(path.read_bytes())

    def run(image: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        with backend.TrtRunner(engine) as runner:
            return [np.array(each) for each in runner.infer({INPUT: image}).values()]

    return run


def _write_coreml(graph: ModalityGraph, example: Tensor, path: Path) -> None:
    coremltools: Any = import_module("coremltools")
    with torch.no_grad(), quietly():
        program = torch.export.export(graph, (example,)).run_decompositions({})
    model = coremltools.convert(
        program,
        outputs=[coremltools.TensorType(name=name) for name in graph.output_names],
        convert_to="mlprogram",
        compute_precision=coremltools.precision.FLOAT32,
    )
    model.save(str(path))


def _read_coreml(path: Path) -> Run:
    coremltools: Any = import_module("coremltools")
    model = coremltools.models.MLModel(str(path))

    def run(image: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        found = model.predict({INPUT: image})
        return [np.asarray(found[name]) for name in OUTPUTS if name in found]

    return run


FORMATS: Mapping[str, ExportFormat] = {
    each.name: each
    for each in (
        ExportFormat(
            name="onnx",
            suffix=".onnx",
            packages=("onnxruntime", *ONNX),
            extra="onnx",
            write=_write_onnx,
            read=_read_onnx,
            triton=("onnxruntime", "model.onnx"),
        ),
        ExportFormat(
            name="openvino",
            suffix=".xml",
            packages=("openvino", *ONNX),
            extra="openvino",
            write=_write_openvino,
            read=_read_openvino,
            triton=("openvino", "model.xml"),
        ),
        ExportFormat(
            name="torchscript",
            suffix=".ts",
            write=_write_torchscript,
            read=_read_torchscript,
            triton=("pytorch", "model.pt"),
        ),
        ExportFormat(
            name="tensorrt",
            suffix=".plan",
            packages=("tensorrt", "polygraphy", *ONNX),
            write=_write_tensorrt,
            read=_read_tensorrt,
            triton=("tensorrt", "model.plan"),
        ),
        ExportFormat(
            name="coreml",
            suffix=".mlpackage",
            packages=("coremltools",),
            write=_write_coreml,
            read=_read_coreml,
        ),
    )
}
"""All formats of a single modality's network, by name."""
