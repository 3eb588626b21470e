"""``esp-medsam distill`` and ``embed``: learn from a teacher, and cache its embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import Bundle, Device, TrustConfig, path_of
from esp_medsam.cli.train import run_to_the_end
from esp_medsam.cli.training_options import (
    Amp,
    BatchSize,
    Common,
    CompareDatalist,
    CompareSteps,
    Epochs,
    InputSize,
    LearningRate,
    NumWorkers,
    Overlays,
    Pretrained,
    Resume,
    RunFolder,
    Seed,
    Teacher,
    TeacherInputSize,
    TeacherWeights,
    Trained,
    Unseen,
    Views,
)


if TYPE_CHECKING:  # the workflow loads torch and MONAI, which --help must not wait for
    from esp_medsam.workflows.request import Request


Data = Annotated[
    Path,
    typer.Argument(
        parser=path_of,
        metavar="DATA",
        help="Datalist (JSON); with --common, a folder of pictures or tar files.",
    ),
]


def distill(
    data: Data,
    output: RunFolder,
    *,
    teacher: Teacher = None,
    teacher_weights: TeacherWeights = None,
    teacher_input_size: TeacherInputSize = None,
    common: Common = False,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            parser=path_of,
            metavar="FOLDER",
            help="Folder of cached teacher embeddings; see `embed`.",
        ),
    ] = None,
    views: Views = None,
    compare_steps: CompareSteps = None,
    compare_datalist: CompareDatalist = None,
    unseen: Unseen = None,
    pretrained: Pretrained = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    input_size: InputSize = None,
    trained: Trained = None,
    num_workers: NumWorkers = None,
    amp: Amp = None,
    seed: Seed = None,
    resume: Resume = None,
    device: Device = None,
    config: Overlays = None,
    trust_config: TrustConfig = False,
    bundle: Bundle = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Train modality controllers, or the shared encoder, on a teacher's embeddings.

    Train on masks from the result with: esp-medsam train --pretrained OUT/model.pt. To show what
    distillation adds, two students are then trained on masks for the same total time, one with and
    one without it, and compared in a table. Run the same command again to resume. Set any other key
    with --config.
    """
    request = _request(
        data,
        common=common,
        bundle=bundle,
        config=config,
        trust_config=trust_config,
        output_dir=str(output),
        teacher=teacher,
        teacher_weights=teacher_weights,
        teacher_input_size=_square(teacher_input_size),
        embeddings=embeddings,
        views=views,
        compare_steps=compare_steps,
        compare_datalist=compare_datalist,
        unseen=unseen,
        pretrained=pretrained,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        input_size=_square(input_size),
        trained=trained or None,
        num_workers=num_workers,
        amp=amp,
        seed=seed,
        resume=resume,
        device=device,
    )
    run_to_the_end(request, told=not (verbose or quiet))


def embed(
    data: Data,
    embeddings: Annotated[
        Path,
        typer.Argument(
            parser=path_of,
            metavar="FOLDER",
            help="Folder for the embeddings; existing ones are kept.",
        ),
    ],
    *,
    teacher: Teacher = None,
    teacher_weights: TeacherWeights = None,
    teacher_input_size: TeacherInputSize = None,
    common: Common = False,
    views: Views = None,
    pretrained: Pretrained = None,
    batch_size: BatchSize = None,
    input_size: InputSize = None,
    num_workers: NumWorkers = None,
    seed: Seed = None,
    device: Device = None,
    config: Overlays = None,
    trust_config: TrustConfig = False,
    bundle: Bundle = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Cache a teacher's embeddings for distill --embeddings FOLDER.

    Only missing embeddings are computed, and an interrupted run loses none that were written.
    Several processes share the work if started with RANK and WORLD_SIZE set, as torchrun does. Use
    the input size and seed of the distillation, which refuses any others.
    """
    request = _request(
        data,
        common=common,
        bundle=bundle,
        config=config,
        trust_config=trust_config,
        teacher=teacher,
        teacher_weights=teacher_weights,
        teacher_input_size=_square(teacher_input_size),
        embeddings=embeddings,
        views=views,
        pretrained=pretrained,
        batch_size=batch_size,
        input_size=_square(input_size),
        num_workers=num_workers,
        seed=seed,
        device=device,
    )
    run_to_the_end(request, told=not (verbose or quiet), section="embed")


def _request(data: Path, *, common: bool, **given: Any) -> Request:
    from esp_medsam.workflows.train_request import read_training

    bundle, config, trust_config = (given.pop(n) for n in ("bundle", "config", "trust_config"))
    given["images" if common else "datalist"] = data
    return read_training(
        bundle,
        config or [],
        stage="common" if common else "modality",
        trust_config=trust_config,
        **{name: str(v) if isinstance(v, Path) else v for name, v in given.items()},
    )


def _square(side: int | None) -> tuple[int, int] | None:
    return None if side is None else (side, side)
