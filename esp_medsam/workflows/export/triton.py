"""A model repository for NVIDIA's Triton Inference Server."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from esp_medsam.runtimes.export_formats import ExportFormat
from esp_medsam.runtimes.modality_graph import INPUT


_CONFIG = """\
name: "{name}"
backend: "{backend}"
max_batch_size: 0
input [{{ name: "{input}", data_type: TYPE_FP32, dims: [1, 3, {height}, {width}] }}]
output [
{outputs}
]
{place}"""


def write_repository(
    folder: Path,
    name: str,
    file: Path,
    kind: ExportFormat,
    size: tuple[int, int],
    outputs: Sequence[tuple[str, Sequence[int]]],
) -> Path:
    """Write a model repository around an exported file, and return its folder.

    Args:
        folder: Where to write it.
        name: Name of the model there.
        file: The exported file.
        kind: Its format.
        size: ``(H, W)`` of the input.
        outputs: Name and shape of each output.
    """
    assert kind.triton is not None, "it was checked"
    backend, stored = kind.triton
    root = folder / "triton"
    version = root / name / "1"
    version.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, version / stored)
    weights = file.with_suffix(".bin")
    if kind.name == "openvino" and weights.exists():
        shutil.copyfile(weights, version / "model.bin")
    # PyTorch's backend knows inputs and outputs by their place.
    by_place = kind.name == "torchscript"
    told = ",\n".join(
        f'  {{ name: "{f"OUTPUT__{place}" if by_place else output}", data_type: TYPE_FP32, '
        f"dims: {list(shape)} }}"
        for place, (output, shape) in enumerate(outputs)
    )
    config = _CONFIG.format(
        name=name,
        backend=backend,
        input="INPUT__0" if by_place else INPUT,
        height=size[0],
        width=size[1],
        outputs=told,
        # What is traced on a CPU makes some of its tensors there.
        place="instance_group [{ kind: KIND_CPU }]\n" if by_place else "",
    )
    (root / name / "config.pbtxt").write_text(config, encoding="utf-8")
    return root
