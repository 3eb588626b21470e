"""``esp-medsam train``: run ``train.yaml`` with its settings as options."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import Bundle, Device, TrustConfig, path_of
from esp_medsam.cli.outcome import interrupted, tell_what_runs
from esp_medsam.cli.training_options import (
    Amp,
    BatchSize,
    Datalist,
    Epochs,
    InputSize,
    LearningRate,
    NumWorkers,
    Overlays,
    Pretrained,
    Resume,
    RunFolder,
    Seed,
    Trained,
)
from esp_medsam.errors import one_line
from esp_medsam.memory import check_libraries_fit


if TYPE_CHECKING:  # the workflow loads torch and MONAI, which --help must not wait for
    from esp_medsam.workflows.request import Request


def train(
    datalist: Datalist,
    output: RunFolder,
    *,
    pretrained: Pretrained = None,
    sam_weights: Annotated[
        Path | None,
        typer.Option(
            "--sam_weights",
            "--sam-weights",
            parser=path_of,
            metavar="FILE",
            help="SAM checkpoint: train a medical teacher around its encoder.",
        ),
    ] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    input_size: InputSize = None,
    frozen: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of parameter names to freeze; repeatable."),
    ] = None,
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
    """Train on a datalist, from scratch or from existing weights.

    Run the same command again to resume. Set any other key of train.yaml with --config, as a YAML
    file of settings or the name of one of the bundle's own stages.
    """
    from esp_medsam.workflows.train_request import read_training

    request = read_training(
        bundle,
        config or [],
        stage="train" if sam_weights is None else "teacher",
        trust_config=trust_config,
        sam_weights=None if sam_weights is None else str(sam_weights),
        datalist=str(datalist),
        output_dir=str(output),
        pretrained=None if pretrained is None else str(pretrained),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        input_size=None if input_size is None else (input_size, input_size),
        frozen=frozen or None,
        trained=trained or None,
        num_workers=num_workers,
        amp=amp,
        seed=seed,
        resume=resume,
        device=device,
    )
    run_to_the_end(request, told=not (verbose or quiet))
    if sam_weights is None:  # of a teacher no masks are asked
        line = one_line(f"Segment with: esp-medsam segment IN OUT {_how(request, output, bundle)}")
        logging.getLogger("esp_medsam").info("%s", line)


def _how(request: Request, output: Path, bundle: Path | None) -> str:
    """Return the options that segment as was trained."""
    height, width = request.settings.get("input_size", (None, None))
    options = {
        "--ckpt_path": output / "model.pt",
        "--bundle": bundle,
        "--input_size": height if height == width else None,
    }
    return " ".join(f"{name} {shlex.quote(str(value))}" for name, value in options.items() if value)


def run_to_the_end(request: Request, *, told: bool, section: str = "run") -> None:
    """Run a training, or another section of its config.

    Args:
        request: What is asked for.
        told: Whether its progress is told, where no option of loudness says how much is.
        section: The section.

    Raises:
        typer.Exit: If it was interrupted.
    """
    tell_what_runs(request)
    check_libraries_fit()
    if told:
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        logging.getLogger("esp_medsam").setLevel(logging.INFO)
    from esp_medsam.workflows.training_run import run_training  # torch: once all else is right

    try:
        run_training(request, section)
    except KeyboardInterrupt as error:
        raise interrupted() from error
