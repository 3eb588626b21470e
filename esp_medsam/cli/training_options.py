"""Options that the commands that train share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from esp_medsam.cli.options import path_of


Datalist = Annotated[
    Path,
    typer.Argument(
        parser=path_of, metavar="DATALIST", help="JSON file; see docs/reference/datalist.md."
    ),
]

RunFolder = Annotated[
    Path,
    typer.Argument(parser=path_of, metavar="OUT", help="Folder of the run; the same one goes on."),
]

Pretrained = Annotated[
    Path | None,
    typer.Option(parser=path_of, metavar="FILE", help="Weights to start from."),
]

Epochs = Annotated[str | None, typer.Option(help="Epochs in all.")]

BatchSize = Annotated[
    str | None, typer.Option("--batch_size", "--batch-size", help="Slices of a batch.")
]

LearningRate = Annotated[
    str | None, typer.Option("--learning_rate", "--learning-rate", help="At its highest.")
]

InputSize = Annotated[
    int | None,
    typer.Option("--input_size", "--input-size", help="Height and width, a multiple of 32."),
]

Overlays = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        parser=path_of,
        metavar="FILE",
        help="YAML with settings in place of train.yaml's; repeatable.",
    ),
]

Trained = Annotated[
    list[str] | None,
    typer.Option(help="Pattern over names of parameters that train; repeatable."),
]

NumWorkers = Annotated[
    str | None, typer.Option("--num_workers", "--num-workers", help="Loader processes.")
]

Amp = Annotated[str | None, typer.Option(help="auto, true or false: bfloat16.")]

Seed = Annotated[str | None, typer.Option(help="Of all that is drawn.")]

Resume = Annotated[
    str | None,
    typer.Option(help="auto, true (there must be a checkpoint) or false (begin anew)."),
]

Teacher = Annotated[
    str | None,
    typer.Option(
        help="sam, mobilesam, medical (train --sam_weights made it) or network (train made it)."
    ),
]

TeacherWeights = Annotated[
    Path | None,
    typer.Option(
        "--teacher_weights",
        "--teacher-weights",
        parser=path_of,
        metavar="FILE",
        help="The teacher's file.",
    ),
]

TeacherInputSize = Annotated[
    int | None,
    typer.Option(
        "--teacher_input_size",
        "--teacher-input-size",
        help="Height and width that a network was trained with.",
    ),
]

Views = Annotated[
    str | None, typer.Option(help="Random views of a slice whose embeddings are kept.")
]

CompareSteps = Annotated[
    str | None,
    typer.Option(
        "--compare_steps",
        "--compare-steps",
        help="Steps on masks afterwards, of two students that show what distillation adds; "
        "auto: as many as of it; 0: none.",
    ),
]

CompareDatalist = Annotated[
    Path | None,
    typer.Option(
        "--compare_datalist",
        "--compare-datalist",
        parser=path_of,
        metavar="DATALIST",
        help="What these learn from, if not DATA.",
    ),
]

Unseen = Annotated[
    Path | None,
    typer.Option(
        parser=path_of,
        metavar="DATALIST",
        help="Other sources, whose section test these are scored on too.",
    ),
]

Common = Annotated[
    bool,
    typer.Option(
        "--common",
        help="DATA holds natural images, for the encoder that all modalities share.",
    ),
]
