"""``esp-medsam export``: the network or the bundle for programs that do not have this package."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from esp_medsam.cli import options
from esp_medsam.cli.options import input_size_of, option, path_argument, path_option
from esp_medsam.errors import one_line
from esp_medsam.memory import check_libraries_fit


class ExportTo(str, Enum):
    """What is written."""

    onnx = "onnx"
    openvino = "openvino"
    torchscript = "torchscript"
    tensorrt = "tensorrt"
    coreml = "coreml"
    bundle = "bundle"


def export(
    output: Annotated[Path, path_argument("OUT", "Folder to write to.")],
    *,
    to: Annotated[ExportTo, option("--to", "What to write.")],
    modality: options.Modality = None,
    images: Annotated[
        Path | None,
        path_option(
            "--images",
            "Images of the modality, on which the file is compared with PyTorch; default: a drawn "
            "picture.",
            metavar="IN",
        ),
    ] = None,
    triton: Annotated[
        bool, option("--triton", "Also write a model repository for NVIDIA Triton.")
    ] = False,
    input_size: options.InputSize = None,
    ct_input: options.CtInput = None,
    overwrite: Annotated[bool, option("--overwrite", "Replace what is there.")] = False,
    config: options.Config = None,
    trust_config: options.TrustConfig = False,
    ckpt_path: options.CkptPath = None,
    bundle: options.Bundle = None,
) -> None:
    """Export the network of one modality to a file that needs no esp-medsam, or the bundle.

    The file is compared with PyTorch before it is kept, and a README beside it says how to run it.
    The bundle becomes a zip with this package inside, for `python -m monai.bundle run`.
    """
    check_libraries_fit()
    if to is ExportTo.bundle:
        of_a_file = {
            "--modality": modality,
            "--images": images,
            "--triton": triton,
            "--input_size": input_size,
            "--ct_input": ct_input,
            "--config": config,
            "--ckpt_path": ckpt_path,
        }
        if given := [name for name, value in of_a_file.items() if value]:
            msg = f"{given[0]} must be left out with --to bundle, which is exported as it is"
            raise typer.BadParameter(msg)
        from esp_medsam.workflows.export.bundle_zip import export_bundle

        made = export_bundle(output, bundle, overwrite=overwrite)
        print(one_line(f"{made}: the bundle, with this package inside."))
        return
    from esp_medsam.io.in_memory import Scratch
    from esp_medsam.workflows.export.artefact import export_network
    from esp_medsam.workflows.request import read_request

    unsaved = Scratch()  # the pipeline requires folders
    request = read_request(
        bundle,
        config or [],
        trust_config=trust_config,
        dataset_dir=str(images or unsaved.path),
        output_dir=str(unsaved.path),
        modality=modality,
        input_size=input_size_of(input_size),
        ct_input=ct_input,
        ckpt_path=None if ckpt_path is None else str(ckpt_path),
    )
    exported = export_network(
        request,
        output,
        to.value,
        has_images=images is not None,
        triton=triton,
        overwrite=overwrite,
    )
    print(one_line(f"{exported.path}: {exported.agreement}."))
