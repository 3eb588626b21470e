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

Epochs = Annotated[str | None, option("--epochs", "Total number of epochs.")]

BatchSize = Annotated[str | None, option("--batch_size", "Slices per batch.")]

LearningRate = Annotated[str | None, option("--learning_rate", "Peak learning rate.")]

InputSize = Annotated[
    int | None, option("--input_size", "Input height and width in pixels, a multiple of 32.")
]

Overlays = Annotated[
    list[Path] | None,
    path_option("--config", "YAML of settings that override train.yaml; repeatable."),
]

Trained = Annotated[
    list[str] | None,
    option(
        "--trained",
        "Pattern of parameter names to train, even if frozen by another pattern; repeatable.",
    ),
]

CacheDir = Annotated[
    Path | None,
    path_option(
        "--cache_dir",
        "Folder to keep slices in, for data larger than memory.",
        metavar="FOLDER",
    ),
]

NumWorkers = Annotated[str | None, option("--num_workers", "Number of data loader processes.")]

Amp = Annotated[str | None, option("--amp", "Train in bfloat16: auto, true or false.")]

Seed = Annotated[str | None, option("--seed", "Random seed.")]

Resume = Annotated[
    str | None,
    option("--resume", "Resume: auto, true (requires a checkpoint) or false (start over)."),
]

Teacher = Annotated[
    str | None,
    option(
        "--teacher",
        "Kind of teacher: sam, mobilesam, medical (made by train --sam_weights) or network "
        "(made by train).",
    ),
]

TeacherWeights = Annotated[Path | None, path_option("--teacher_weights", "Teacher checkpoint.")]

TeacherInputSize = Annotated[
    int | None,
    option(
        "--teacher_input_size",
        "Height and width a network or medical teacher was trained with; default: 448, of a "
        "medical teacher 1024.",
    ),
]

Views = Annotated[str | None, option("--views", "Number of random views of each slice to cache.")]

CompareSteps = Annotated[
    str | None,
    option(
        "--compare_steps",
        "Steps on masks for the student that was distilled; the one beside it trains for "
        "the same total time. auto: as many as the distillation; 0: no comparison.",
    ),
]

CompareDatalist = Annotated[
    Path | None,
    path_option(
        "--compare_datalist",
        "Datalist the two students learn from, if not DATA.",
        metavar="DATALIST",
    ),
]

Unseen = Annotated[
    Path | None,
    path_option(
        "--unseen",
        "Datalist of other sources, whose test section both students are scored on too.",
        metavar="DATALIST",
    ),
]

Common = Annotated[
    bool, option("--common", "Distill the shared encoder from natural images in DATA.")
]
