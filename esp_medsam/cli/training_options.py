"""Options shared by the commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from esp_medsam.cli.options import option, path_argument, path_option


Datalist = Annotated[
    Path, path_argument("DATALIST", "Datalist (JSON); see docs/reference/datalist.md.")
]

RunFolder = Annotated[
    Path, path_argument("OUT", "Run folder; training resumes if the folder holds a checkpoint.")
]

Pretrained = Annotated[Path | None, path_option("--pretrained", "Weights to start from.")]

Epochs = Annotated[str | None, option("--epochs", "Total number of epochs.", metavar="INT")]

BatchSize = Annotated[str | None, option("--batch_size", "Slices per batch.", metavar="INT")]

LearningRate = Annotated[
    str | None, option("--learning_rate", "Peak learning rate.", metavar="FLOAT")
]

InputSize = Annotated[
    int | None,
    option("--input_size", "Input height and width in pixels, a multiple of 32.", metavar="INT"),
]

Overlays = Annotated[
    list[Path] | None,
    path_option("--config", "YAML of settings that override train.yaml; repeatable."),
]

Trained = Annotated[
    list[str] | None,
    option(
        "--trained",
        "Pattern of parameter names to train, even if --frozen matches them; repeatable.",
        metavar="PATTERN",
    ),
]

CacheDir = Annotated[
    Path | None,
    path_option(
        "--cache_dir",
        "Folder to cache slices in, for data larger than memory.",
        metavar="FOLDER",
    ),
]

NumWorkers = Annotated[
    str | None, option("--num_workers", "Number of data loader processes.", metavar="INT")
]

Amp = Annotated[str | None, option("--amp", "Train in bfloat16.", metavar="auto|true|false")]

Seed = Annotated[str | None, option("--seed", "Random seed.", metavar="INT")]

Resume = Annotated[
    str | None,
    option(
        "--resume",
        "true: fail if there is no checkpoint to resume from; false: start over; auto: resume if "
        "there is one.",
        metavar="auto|true|false",
    ),
]

Teacher = Annotated[
    str | None,
    option(
        "--teacher",
        "Kind of teacher: train makes a network and, with --sam_weights, a medical one.",
        metavar="sam|mobilesam|medical|network",
    ),
]

TeacherWeights = Annotated[Path | None, path_option("--teacher_weights", "Teacher checkpoint.")]

TeacherInputSize = Annotated[
    int | None,
    option(
        "--teacher_input_size",
        "Height and width that a network or medical teacher was trained with; default: as its "
        "record states, else 448, or 1024 for a medical teacher.",
        metavar="INT",
    ),
]

Views = Annotated[
    str | None, option("--views", "Random views to cache of each slice.", metavar="INT")
]

CompareSteps = Annotated[
    str | None,
    option(
        "--compare_steps",
        "Steps that the distilled student then trains on masks, to be compared with one trained "
        "on masks alone for the same total time. auto: as many as the distillation took; 0: do "
        "not compare.",
        metavar="INT|auto",
    ),
]

CompareDatalist = Annotated[
    Path | None,
    path_option(
        "--compare_datalist",
        "Datalist that the compared students train on; default: DATA.",
        metavar="DATALIST",
    ),
]

Unseen = Annotated[
    Path | None,
    path_option(
        "--unseen",
        "Datalist from other sources; the compared students are also scored on its test section.",
        metavar="DATALIST",
    ),
]

Common = Annotated[
    bool, option("--common", "Distill the shared encoder from natural images in DATA.")
]
