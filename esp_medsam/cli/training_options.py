"""Options shared by the commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from esp_medsam.cli.options import path_of


Datalist = Annotated[
    Path,
    typer.Argument(
        parser=path_of, metavar="DATALIST", help="Datalist (JSON); see docs/reference/datalist.md."
    ),
]

RunFolder = Annotated[
    Path,
    typer.Argument(
        parser=path_of,
        metavar="OUT",
        help="Run folder; training resumes if the folder holds a checkpoint.",
    ),
]

Pretrained = Annotated[
    Path | None,
    typer.Option(parser=path_of, metavar="FILE", help="Weights to start from."),
]

Epochs = Annotated[str | None, typer.Option(help="Total number of epochs.")]

BatchSize = Annotated[
    str | None, typer.Option("--batch_size", "--batch-size", help="Slices per batch.")
]

LearningRate = Annotated[
    str | None, typer.Option("--learning_rate", "--learning-rate", help="Peak learning rate.")
]

InputSize = Annotated[
    int | None,
    typer.Option(
        "--input_size", "--input-size", help="Input height and width in pixels, a multiple of 32."
    ),
]

Overlays = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        parser=path_of,
        metavar="FILE",
        help="YAML of settings that override train.yaml; repeatable.",
    ),
]

Trained = Annotated[
    list[str] | None,
    typer.Option(
        help="Pattern of parameter names to train, even if frozen by another pattern; repeatable."
    ),
]

NumWorkers = Annotated[
    str | None,
    typer.Option("--num_workers", "--num-workers", help="Number of data loader processes."),
]

Amp = Annotated[str | None, typer.Option(help="Train in bfloat16: auto, true or false.")]

Seed = Annotated[str | None, typer.Option(help="Random seed.")]

Resume = Annotated[
    str | None,
    typer.Option(help="Resume: auto, true (requires a checkpoint) or false (start over)."),
]

Teacher = Annotated[
    str | None,
    typer.Option(
        help="Kind of teacher: sam, mobilesam, medical (made by train --sam_weights) or network "
        "(made by train)."
    ),
]

TeacherWeights = Annotated[
    Path | None,
    typer.Option(
        "--teacher_weights",
        "--teacher-weights",
        parser=path_of,
        metavar="FILE",
        help="Teacher checkpoint.",
    ),
]

TeacherInputSize = Annotated[
    int | None,
    typer.Option(
        "--teacher_input_size",
        "--teacher-input-size",
        help="Height and width a network or medical teacher was trained with; default: 448, of a "
        "medical teacher 1024.",
    ),
]

Views = Annotated[str | None, typer.Option(help="Number of random views of each slice to cache.")]

CompareSteps = Annotated[
    str | None,
    typer.Option(
        "--compare_steps",
        "--compare-steps",
        help="Steps on masks for the student that was distilled; the one beside it trains for "
        "the same total time. auto: as many as the distillation; 0: no comparison.",
    ),
]

CompareDatalist = Annotated[
    Path | None,
    typer.Option(
        "--compare_datalist",
        "--compare-datalist",
        parser=path_of,
        metavar="DATALIST",
        help="Datalist the two students learn from, if not DATA.",
    ),
]

Unseen = Annotated[
    Path | None,
    typer.Option(
        parser=path_of,
        metavar="DATALIST",
        help="Datalist of other sources, whose test section both students are scored on too.",
    ),
]

Common = Annotated[
    bool,
    typer.Option(
        "--common",
        help="Distill the shared encoder from natural images in DATA.",
    ),
]
