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
        "--modality", help="What the images are, see `modalities`; DICOM may say it instead."
    ),
]
ForceModality = Annotated[
    bool,
    typer.Option("--force_modality", "--force-modality", help="Even if DICOM contradicts."),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--targets",
        help="Targets to segment, repeated or with commas, or all; by default those ready.",
        callback=_split,
    ),
]
EvaluatedTargets = Annotated[
    list[str] | None,
    typer.Option(
        "--targets",
        help="Only these, repeated or with commas; all by default.",
        callback=_split,
    ),
]
OutputFormat = Annotated[
    str | None,
    typer.Option(
        "--output_format",
        "--output-format",
        help="auto, dicom-seg, nifti or png; several with commas.",
    ),
]
Names = Annotated[
    str | None,
    typer.Option(
        "--names", help="What results of DICOM are called: uid, or readable (CT_abdomen_3)."
    ),
]
SegType = Annotated[
    str | None,
    typer.Option("--seg_type", "--seg-type", help="binary, labelmap or fractional; of dicom-seg."),
]
WriteEmpty = Annotated[
    bool,
    typer.Option("--write_empty", "--write-empty", help="A dicom-seg of nothing found, too."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results of other settings.")]
Verify = Annotated[
    bool,
    typer.Option("--verify", help="Compare contents, not sizes and times."),
]
SplitTargets = Annotated[
    bool,
    typer.Option("--split_targets", "--split-targets", help="Also one 0/1 file per target."),
]
Probabilities = Annotated[
    bool, typer.Option("--probabilities", help="Also 255 times the probability per target.")
]
Include = Annotated[
    list[str] | None, typer.Option("--include", help="Take paths that match, such as '*.nii.gz'.")
]
Exclude = Annotated[list[str] | None, typer.Option("--exclude", help="Leave out paths that match.")]
Series = Annotated[
    str | None, typer.Option("--series", help="A DICOM Series Instance UID to take alone.")
]
Join = Annotated[
    list[str] | None,
    typer.Option(
        "--join",
        help="Read as one what DICOM files keep apart: series (of lone slices), "
        "frame_of_reference, interleaved; several with commas.",
        callback=_split,
    ),
]
Frame = Annotated[int | None, typer.Option("--frame", help="Which volume of a 4-D file, from 0.")]
CtInput = Annotated[
    str | None,
    typer.Option(
        "--ct_input", "--ct-input", help="windowed for 8-bit CT; hu where DICOM does not say HU."
    ),
]
SliceAxis = Annotated[
    str | None,
    typer.Option("--slice_axis", "--slice-axis", help="axial, coronal or sagittal."),
]


_DIGITS = 10
"""Most digits of what is read as a number; of thousands Python reads none."""


FAST = [224, 224]
"""Size of the network's input, pixels, with ``--fast``."""


def input_size_of(value: str | None, *, fast: bool = False) -> list[int] | str | None:
    """Return what a setting takes of one number, or of a word; ``--fast`` stands for a number."""
    if fast:
        if value is not None:
            msg = f"it must be left out beside --fast, which is {FAST[0]}; got {value}"
            raise typer.BadParameter(msg, param_hint="--input_size")
        return FAST
    if value is None or not value.isdecimal() or len(value) > _DIGITS:
        return value
    return [int(value)] * 2


InputSize = Annotated[
    str | None,
    typer.Option(
        "--input_size",
        "--input-size",
        metavar="N|native",
        help="Side that slices are scaled to, a multiple of 32; native: each on its own grid.",
    ),
]
Fast = Annotated[
    bool,
    typer.Option(
        "--fast", help=f"Slices at {FAST[0]} x {FAST[1]}: a quarter of the time, less exact."
    ),
]
Flips = Annotated[
    bool,
    typer.Option(
        "--flips",
        help="Average over mirrored views too, two or four times as slow; never of CT, MRI, X-ray.",
    ),
]
SliceSmoothing = Annotated[
    float | None,
    typer.Option(
        "--slice_smoothing",
        "--slice-smoothing",
        metavar="MM",
        help="Smooth a volume's probabilities across its slices by a Gaussian.",
    ),
]
SliceBatch = Annotated[
    int | None,
    typer.Option("--slice_batch", "--slice-batch", help="Slices per forward pass."),
]
Device = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda, cuda:1 or mps; the best at hand by default."),
]
Amp = Annotated[bool, typer.Option("--amp", help="bfloat16 autocast.")]
Config = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        parser=path_of,
        metavar="FILE",
        help="YAML with settings and transforms in place of inference.yaml's; repeatable.",
    ),
]
TrustConfig = Annotated[
    bool,
    typer.Option(
        "--trust_config",
        "--trust-config",
        help="Let --config and --bundle run code; says what it will run.",
    ),
]
CkptPath = Annotated[
    Path | None,
    typer.Option(
        "--ckpt_path", "--ckpt-path", parser=path_of, metavar="FILE", help="Weights to use."
    ),
]
Bundle = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        parser=path_of,
        metavar="FOLDER",
        help="Folder of the bundle; else ESP_MEDSAM_BUNDLE, else installed.",
    ),
]
