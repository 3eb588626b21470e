"""Options that several subcommands share.

Pipeline options are named like the keys of ``inference.yaml``; None keeps the config's value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def _split_names(names: list[str] | None) -> list[str] | None:
    """Return single names from a repeated option or a comma-separated list."""
    return [part for name in names for part in name.split(",")] if names else None


def path_of(text: str) -> Path:
    """Return a path; refuse an empty one, as an unset shell variable gives."""
    if not text:
        msg = "it must not be empty"
        raise typer.BadParameter(msg)
    return Path(text)


def option(name: str, text: str, **settings: Any) -> Any:
    """Return an option that may also be spelled with dashes instead of underscores."""
    dashed = f"--{name.removeprefix('--').replace('_', '-')}"
    return typer.Option(*dict.fromkeys((name, dashed)), help=text, **settings)


def path_option(name: str, text: str, metavar: str = "FILE", **settings: Any) -> Any:
    """Return an option that takes a path."""
    return option(name, text, parser=path_of, metavar=metavar, **settings)


def path_argument(metavar: str, text: str) -> Any:
    """Return an argument that is a path."""
    return typer.Argument(metavar=metavar, parser=path_of, help=text)


Modality = Annotated[
    str | None,
    option(
        "--modality",
        "Modality of the images (`esp-medsam modalities` lists them); default: from the DICOM "
        "header.",
        metavar="NAME",
    ),
]
ForceModality = Annotated[
    bool, option("--force_modality", "Use --modality even if the DICOM header contradicts it.")
]
Targets = Annotated[
    list[str] | None,
    option(
        "--targets",
        "Targets to segment (repeatable or comma-separated), or all; default: those marked ready.",
        metavar="NAME",
        callback=_split_names,
    ),
]
EvaluatedTargets = Annotated[
    list[str] | None,
    option(
        "--targets",
        "Score only these targets (repeatable or comma-separated); default: all.",
        metavar="NAME",
        callback=_split_names,
    ),
]
OutputFormat = Annotated[
    str | None,
    option(
        "--output_format",
        "Output formats (comma-separated): auto, dicom-seg, nifti, png.",
        metavar="FORMAT",
    ),
]
Names = Annotated[
    str | None,
    option(
        "--names",
        "Name results of DICOM series by UID, or readably, such as CT_abdomen_3.",
        metavar="uid|readable",
    ),
]
SegType = Annotated[
    str | None,
    option("--seg_type", "Type of the DICOM-SEG.", metavar="binary|labelmap|fractional"),
]
WriteEmpty = Annotated[
    bool, option("--write_empty", "Also write a DICOM-SEG when nothing is found.")
]
Overwrite = Annotated[
    bool, option("--overwrite", "Overwrite results that were made with other settings.")
]
Verify = Annotated[
    bool, option("--verify", "Compare file contents with the record, not only sizes and times.")
]
SplitTargets = Annotated[
    bool, option("--split_targets", "Also write one 0/1 mask file per target.")
]
Probabilities = Annotated[
    bool, option("--probabilities", "Also write one probability map per target, scaled to 0-255.")
]
Include = Annotated[
    list[str] | None,
    option(
        "--include",
        "Only take paths that match this pattern, such as '*.nii.gz'; repeatable.",
        metavar="PATTERN",
    ),
]
Exclude = Annotated[
    list[str] | None,
    option("--exclude", "Skip paths that match this pattern; repeatable.", metavar="PATTERN"),
]
Series = Annotated[
    str | None,
    option("--series", "Only take the DICOM series with this Series Instance UID.", metavar="UID"),
]
Join = Annotated[
    list[str] | None,
    option(
        "--join",
        "Join DICOM volumes that their headers keep apart (comma-separated): series (of one slice "
        "each), frame_of_reference, interleaved.",
        metavar="NAME",
        callback=_split_names,
    ),
]
JoinWithinSeries = Annotated[
    list[str] | None,
    option(
        "--join",
        "Join DICOM volumes of a series that their headers keep apart (comma-separated): "
        "frame_of_reference, interleaved.",
        metavar="NAME",
        callback=_split_names,
    ),
]
Frame = Annotated[
    int | None,
    option("--frame", "Index of the volume to take from a 4-D file, from 0.", metavar="INT"),
]
CtInput = Annotated[
    str | None,
    option(
        "--ct_input",
        "Unit of CT values: hu (if DICOM does not say so), or windowed for 8-bit CT.",
        metavar="hu|windowed",
    ),
]
SliceAxis = Annotated[
    str | None,
    option(
        "--slice_axis",
        "Cut volumes into slices of this plane.",
        metavar="axial|coronal|sagittal",
    ),
]


_DIGITS = 10
"""Most digits of a number; Python refuses to convert thousands of digits."""


FAST = (224, 224)
"""Size of the network's input, pixels, with ``--fast``."""


def input_size_of(value: str | None, *, fast: bool = False) -> list[int] | str | None:
    """Return the setting for one number or a word; ``--fast`` stands for a number."""
    if fast:
        if value is not None:
            msg = f"must be left out with --fast, which sets it to {FAST[0]}; got {value}"
            raise typer.BadParameter(msg, param_hint="--input_size")
        return list(FAST)
    if value is None or not value.isdecimal() or len(value) > _DIGITS:
        return value
    return [int(value)] * 2


InputSize = Annotated[
    str | None,
    option(
        "--input_size",
        "Scale slices to this side length, a multiple of 32; native: do not scale.",
        metavar="N|native",
    ),
]
Fast = Annotated[
    bool, option("--fast", f"Scale slices to {FAST[0]} x {FAST[1]}: faster, less accurate.")
]
Flips = Annotated[
    bool,
    option(
        "--flips",
        "Average over mirrored views: 2 or 4 times slower; no effect on CT, MRI, X-ray and "
        "modalities of your own.",
    ),
]
SliceSmoothing = Annotated[
    float | None,
    option(
        "--slice_smoothing",
        "Smooth the probabilities of a volume across slices with a Gaussian of this standard "
        "deviation, in mm.",
        metavar="MM",
    ),
]
Threshold = Annotated[
    float | None,
    option(
        "--threshold",
        "Probability from which a voxel belongs to a target, instead of what targets.yaml says.",
        metavar="P",
    ),
]
LargestComponent = Annotated[
    bool, option("--largest_component", "Keep only the largest component of each target.")
]
MinMl = Annotated[
    float | None,
    option(
        "--min_ml",
        "Remove components of volumes that are smaller than this, in milliliters.",
        metavar="ML",
    ),
]
SliceBatch = Annotated[
    int | None,
    option(
        "--slice_batch", "Slices per forward pass; default: 1 on the CPU, else 4.", metavar="INT"
    ),
]
AsJson = Annotated[
    bool,
    option("--json", "Print one JSON object per item on standard output; the rest elsewhere."),
]
DryRun = Annotated[
    bool, option("--dry_run", "Only say what would be done with each item; write nothing.")
]
Device = Annotated[
    str | None,
    option(
        "--device",
        "Device to run on: cpu, cuda, cuda:1 or mps; default: cuda if there is a GPU, else cpu.",
        metavar="DEVICE",
    ),
]
Amp = Annotated[bool, option("--amp", "Run the network in bfloat16.")]
Runtime = Annotated[
    str | None,
    option(
        "--runtime",
        "What computes the network: eager (PyTorch), openvino, onnxruntime, compile, cuda-graph or "
        "tensorrt; default: auto, the fastest of those installed that are tried out quickly.",
        metavar="NAME",
    ),
]
Config = Annotated[
    list[Path] | None,
    path_option(
        "--config", "YAML of settings and transforms that override inference.yaml; repeatable."
    ),
]
TrustConfig = Annotated[
    bool,
    option(
        "--trust_config", "Allow --config and --bundle to run code, after listing what will run."
    ),
]
CkptPath = Annotated[
    Path | None, path_option("--ckpt_path", "Weights to use instead of the bundle's.")
]
Bundle = Annotated[
    Path | None,
    path_option(
        "--bundle",
        "Bundle folder; default: $ESP_MEDSAM_BUNDLE, then the installed bundle.",
        metavar="FOLDER",
    ),
]
