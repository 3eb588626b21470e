"""Which runtimes there are, what each needs, and where it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

import torch
from torch import Tensor

from esp_medsam.errors import OptionError
from esp_medsam.runtimes.encoder_graph import EncoderGraph, Engine
from esp_medsam.runtimes.packages import ONNX, check_packages, missing_of
from esp_medsam.runtimes.store import Store


EAGER = "eager"
"""Name of the runtime that PyTorch itself is."""


class Build(Protocol):
    """Makes a runtime's engine."""

    def __call__(self, graph: EncoderGraph, example: Tensor, store: Store) -> Engine:
        """Return the engine for inputs of one shape.

        Args:
            graph: The encoder, on the device that it runs on.
            example: An input of that shape.
            store: Keeps what takes long to build.
        """


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What computes the encoder.

    Attributes:
        name: Name of the runtime.
        devices: Kinds of device that it runs on.
        packages: Packages that it needs beside our own requirements, the first the runtime itself.
        extra: Extra of this package that installs them; empty if it is not ours to install.
        builder: Module and function that build its engine; empty for PyTorch itself.
        is_quick: Whether it is tried out: it is ready in seconds, and was run on such a device.
    """

    name: str
    devices: tuple[str, ...]
    packages: tuple[str, ...] = ()
    extra: str = ""
    builder: tuple[str, str] = ("", "")
    is_quick: bool = True

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages that it needs and that are not installed."""
        return missing_of(self.packages)

    @property
    def version(self) -> str:
        """Version of the library that computes."""
        if not self.packages:
            return torch.__version__
        name = self.packages[0]
        try:
            return version(name)
        except PackageNotFoundError:  # another distribution has the module, such as onnxruntime-gpu
            return str(getattr(import_module(name), "__version__", "of unknown version"))

    def build(self, graph: EncoderGraph, example: Tensor, store: Store) -> Engine:
        """Return its engine; see :class:`Build`."""
        module, name = self.builder
        make: Build = getattr(import_module(f"esp_medsam.runtimes.{module}"), name)
        return make(graph, example, store)


RUNTIMES: Mapping[str, Runtime] = {
    runtime.name: runtime
    for runtime in (
        Runtime(name=EAGER, devices=("cpu", "cuda", "mps")),
        Runtime(
            name="openvino",
            devices=("cpu",),
            packages=("openvino", *ONNX),
            extra="openvino",
            builder=("openvino_engine", "build"),
        ),
        Runtime(
            name="onnxruntime",
            devices=("cpu",),
            packages=("onnxruntime", *ONNX),
            extra="onnx",
            builder=("onnxruntime_engine", "build"),
        ),
        Runtime(
            name="compile",
            devices=("cpu", "cuda"),
            builder=("torch_engines", "build_compiled"),
            is_quick=False,
        ),
        Runtime(
            name="cuda-graph",
            devices=("cuda",),
            builder=("torch_engines", "build_cuda_graph"),
            is_quick=False,
        ),
        Runtime(
            name="tensorrt",
            devices=("cuda",),
            packages=("tensorrt", "polygraphy", *ONNX),
            builder=("tensorrt_engine", "build"),
            is_quick=False,
        ),
    )
}
"""All runtimes by name."""


def quick_runtimes(device: str) -> tuple[Runtime, ...]:
    """Return the runtimes beside PyTorch that are installed and ready in seconds.

    Args:
        device: Kind of the device, such as ``cpu``.
    """
    return tuple(
        each
        for each in RUNTIMES.values()
        if each.name != EAGER and each.is_quick and device in each.devices and not each.missing
    )


def check_runtime(name: str, device: str) -> None:
    """Refuse a runtime that cannot run here.

    Args:
        name: Name of the runtime.
        device: Kind of the device, such as ``cpu``.

    Raises:
        OptionError: If packages are missing, or the runtime does not run on the device.
    """
    runtime = RUNTIMES[name]
    if device not in runtime.devices:
        fitting = [each.name for each in RUNTIMES.values() if device in each.devices]
        msg = f"runtime must be one that runs on {device} ({', '.join(fitting)}); got {name}."
        raise OptionError(msg)
    check_packages(f"runtime {name}", runtime.packages, runtime.extra)
