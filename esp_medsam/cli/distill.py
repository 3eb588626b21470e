"""``esp-medsam distill`` and ``embed``: learn from a teacher, and cache its embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from esp_medsam.cli import training_options
from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import Bundle, Device, TrustConfig, path_argument, path_option
from esp_medsam.cli.train import run_to_the_end


if TYPE_CHECKING:  # loads torch and MONAI, which would slow down --help
    from esp_medsam.workflows.request import Request


Data = Annotated[
    Path,
    path_argument("DATA", "Datalist (JSON); with --common, a folder of pictures or tar files."),
]


def distill(
    data: Data,
    output: training_options.RunFolder,
    *,
    teacher: training_options.Teacher = None,
    teacher_weights: training_options.TeacherWeights = None,
    teacher_input_size: training_options.TeacherInputSize = None,
    common: training_options.Common = False,
    embeddings: Annotated[
        Path | None,
        path_option(
            "--embeddings", "Folder of teacher embeddings, as `embed` writes it.", metavar="FOLDER"
        ),
    ] = None,
    views: training_options.Views = None,
    compare_steps: training_options.CompareSteps = None,
    compare_datalist: training_options.CompareDatalist = None,
    unseen: training_options.Unseen = None,
    pretrained: training_options.Pretrained = None,
    epochs: training_options.Epochs = None,
    batch_size: training_options.BatchSize = None,
    learning_rate: training_options.LearningRate = None,
    input_size: training_options.InputSize = None,
    trained: training_options.Trained = None,
    cache_dir: training_options.CacheDir = None,
    num_workers: training_options.NumWorkers = None,
    amp: training_options.Amp = None,
    seed: training_options.Seed = None,
    resume: training_options.Resume = None,
    device: Device = None,
    config: training_options.Overlays = None,
    trust_config: TrustConfig = False,
    bundle: Bundle = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Train modality controllers, or the shared encoder, on a teacher's embeddings.

    To train on masks next, run: esp-medsam train --pretrained OUT/model.pt. To show what
    distillation adds, the command also trains two students on masks, one distilled and one not, for
    the same total time, and compares them in a table. Run the same command again to resume.
    --config sets any other key.
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
        cache_dir=cache_dir,
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
        Path, path_argument("FOLDER", "Folder for the embeddings; existing ones are kept.")
    ],
    *,
    teacher: training_options.Teacher = None,
    teacher_weights: training_options.TeacherWeights = None,
    teacher_input_size: training_options.TeacherInputSize = None,
    common: training_options.Common = False,
    views: training_options.Views = None,
    pretrained: training_options.Pretrained = None,
    batch_size: training_options.BatchSize = None,
    input_size: training_options.InputSize = None,
    cache_dir: training_options.CacheDir = None,
    num_workers: training_options.NumWorkers = None,
    seed: training_options.Seed = None,
    device: Device = None,
    config: training_options.Overlays = None,
    trust_config: TrustConfig = False,
    bundle: Bundle = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Cache a teacher's embeddings, for `distill --embeddings FOLDER`.

    Only missing embeddings are computed, so an interrupted run goes on where it stopped. Several
    processes share the work if RANK and WORLD_SIZE are set, as torchrun does. Use the input size
    and seed of the distillation, which refuses embeddings made with others.
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
        cache_dir=cache_dir,
        num_workers=num_workers,
        seed=seed,
        device=device,
        compare_steps=0,  # nothing is distilled yet
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
