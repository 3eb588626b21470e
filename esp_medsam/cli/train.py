"""``esp-medsam train``: run ``train.yaml`` with its settings as options."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from esp_medsam.cli import training_options
from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import Bundle, Device, TrustConfig, option, path_option
from esp_medsam.cli.outcome import interrupted, tell_what_runs
from esp_medsam.errors import one_line
from esp_medsam.memory import check_libraries_fit


if TYPE_CHECKING:  # loads torch and MONAI, which would slow down --help
    from esp_medsam.workflows.request import Request


def train(
    datalist: training_options.Datalist,
    output: training_options.RunFolder,
    *,
    pretrained: training_options.Pretrained = None,
    sam_weights: Annotated[
        Path | None,
        path_option(
            "--sam_weights", "SAM checkpoint; trains a medical teacher around its encoder."
        ),
    ] = None,
    epochs: training_options.Epochs = None,
    batch_size: training_options.BatchSize = None,
    learning_rate: training_options.LearningRate = None,
    input_size: training_options.InputSize = None,
    frozen: Annotated[
        list[str] | None,
        option("--frozen", "Pattern of parameter names to freeze; repeatable.", metavar="PATTERN"),
    ] = None,
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
    """Train on a datalist, from scratch or from existing weights.

    Run the same command again to resume. --config sets any other key of train.yaml: pass a YAML
    file, or the name of one of the bundle's training configs.
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
        cache_dir=None if cache_dir is None else str(cache_dir),
        num_workers=num_workers,
        amp=amp,
        seed=seed,
        resume=resume,
        device=device,
    )
    run_to_the_end(request, told=not (verbose or quiet))
    if sam_weights is None:  # a teacher is not meant for segmenting
        line = one_line(f"Segment with: esp-medsam segment IN OUT {_how(request, output, bundle)}")
        logging.getLogger("esp_medsam").info("%s", line)


def _how(request: Request, output: Path, bundle: Path | None) -> str:
    """Return the options with which segment matches the training."""
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
        request: Request for the training.
        told: Whether to report progress when neither --verbose nor --quiet decides it.
        section: Section of the config to run.

    Raises:
        typer.Exit: If the user interrupted the run.
    """
    tell_what_runs(request)
    check_libraries_fit()
    if told:
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        logging.getLogger("esp_medsam").setLevel(logging.INFO)
    from esp_medsam.workflows.training_run import run_training  # loads torch: after all checks

    try:
        run_training(request, section)
    except KeyboardInterrupt as error:
        raise interrupted() from error
