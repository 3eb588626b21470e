"""Options that several sub-commands share, each written once.

Those of the pipeline go by the keys of ``inference.yaml``; None leaves the config's own value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _split(names: list[str] | None) -> list[str] | None:
    """Return names that were repeated, or joined with commas, one by one."""
    return [part for name in names for part in name.split(",")] if names else None


def path_of(text: str) -> Path:
    """Return a path; an empty one, which a shell's unset variable makes, is no folder of ours."""
    if not text:
        msg = "it must not be empty"
        raise typer.BadParameter(msg)
    return Path(text)


Modality = Annotated[
    str | None,
    typer.Option(
        "--modality",
        help="Modality of the images, one that `esp-medsam modalities` lists; default: what DICOM "
        "says.",
    ),
]
ForceModality = Annotated[
    bool,
    typer.Option(
        "--force_modality",
        "--force-modality",
        help="Use --modality even if the DICOM header contradicts it.",
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--targets",
        help="Targets to segment (repeatable or comma-separated), or all; default: those marked "
        "ready.",
        callback=_split,
    ),
]
EvaluatedTargets = Annotated[
    list[str] | None,
    typer.Option(
        "--targets",
        help="Score only these targets (repeatable or comma-separated); default: all.",
        callback=_split,
    ),
]
OutputFormat = Annotated[
    str | None,
    typer.Option(
        "--output_format",
        "--output-format",
        help="Output formats: auto, dicom-seg, nifti or png; comma-separated for several.",
    ),
]
Names = Annotated[
    str | None,
    typer.Option("--names", help="File names of DICOM results: uid, or readable (CT_abdomen_3)."),
]
SegType = Annotated[
    str | None,
    typer.Option(
        "--seg_type", "--seg-type", help="Type of DICOM-SEG: binary, labelmap or fractional."
    ),
]
WriteEmpty = Annotated[
    bool,
    typer.Option(
        "--write_empty", "--write-empty", help="Also write a DICOM-SEG when nothing is found."
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Overwrite results that were made with other settings.")
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify", help="Compare file contents with the record, not only sizes and times."
    ),
]
SplitTargets = Annotated[
    bool,
    typer.Option(
        "--split_targets", "--split-targets", help="Also write one 0/1 mask file per target."
    ),
]
Probabilities = Annotated[
    bool,
    typer.Option(
        "--probabilities", help="Also write one probability map per target, scaled to 0-255."
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include", help="Only take paths that match this pattern, such as '*.nii.gz'; repeatable."
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="Skip paths that match this pattern; repeatable."),
]
Series = Annotated[
    str | None,
    typer.Option("--series", help="Take only the DICOM series with this Series Instance UID."),
]
Join = Annotated[
    list[str] | None,
    typer.Option(
        "--join",
        help="Join DICOM volumes that their headers keep apart: series (single slices), "
        "frame_of_reference, interleaved; several with commas.",
        callback=_split,
    ),
]
Frame = Annotated[
    int | None, typer.Option("--frame", help="Index of the volume to take from a 4-D file, from 0.")
]
CtInput = Annotated[
    str | None,
    typer.Option(
        "--ct_input",
        "--ct-input",
        help="CT values: windowed (8-bit CT), or hu where DICOM does not say so.",
    ),
]
SliceAxis = Annotated[
    str | None,
    typer.Option(
        "--slice_axis",
        "--slice-axis",
        help="Slice volumes along this plane: axial, coronal or sagittal.",
    ),
]


_DIGITS = 10
"""Most digits of what is read as a number; of thousands Python reads none."""


FAST = (224, 224)
"""Size of the network's input, pixels, with ``--fast``."""


def input_size_of(value: str | None, *, fast: bool = False) -> list[int] | str | None:
    """Return what a setting takes of one number, or of a word; ``--fast`` stands for a number."""
    if fast:
        if value is not None:
            msg = f"it must be left out beside --fast, which is {FAST[0]}; got {value}"
            raise typer.BadParameter(msg, param_hint="--input_size")
        return list(FAST)
    if value is None or not value.isdecimal() or len(value) > _DIGITS:
        return value
    return [int(value)] * 2


InputSize = Annotated[
    str | None,
    typer.Option(
        "--input_size",
        "--input-size",
        metavar="N|native",
        help="Side length slices are scaled to, a multiple of 32, or native for no scaling.",
    ),
]
Fast = Annotated[
    bool,
    typer.Option(
        "--fast",
        help=f"Scale slices to {FAST[0]} x {FAST[1]}: faster, less accurate.",
    ),
]
Flips = Annotated[
    bool,
    typer.Option(
        "--flips",
        help="Average over mirrored views (2 or 4 times slower); no effect on CT, MRI, X-ray and "
        "modalities of your own.",
    ),
]
SliceSmoothing = Annotated[
    float | None,
    typer.Option(
        "--slice_smoothing",
        "--slice-smoothing",
        metavar="MM",
        help="Smooth the probabilities of a volume across its slices, with a Gaussian of this "
        "standard deviation.",
    ),
]
SliceBatch = Annotated[
    int | None,
    typer.Option("--slice_batch", "--slice-batch", help="Slices per forward pass."),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Device: cpu, cuda, cuda:1 or mps; default: cuda where there is a GPU, else cpu.",
    ),
]
Amp = Annotated[bool, typer.Option("--amp", help="Run the network in bfloat16.")]
Config = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        parser=path_of,
        metavar="FILE",
        help="YAML of settings and transforms that override inference.yaml; repeatable.",
    ),
]
TrustConfig = Annotated[
    bool,
    typer.Option(
        "--trust_config",
        "--trust-config",
        help="Allow --config and --bundle to run code, after listing what will run.",
    ),
]
CkptPath = Annotated[
    Path | None,
    typer.Option(
        "--ckpt_path",
        "--ckpt-path",
        parser=path_of,
        metavar="FILE",
        help="Weights to use instead of the bundle's.",
    ),
]
Bundle = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        parser=path_of,
        metavar="FOLDER",
        help="Bundle folder; default: $ESP_MEDSAM_BUNDLE, then the installed bundle.",
    ),
]
