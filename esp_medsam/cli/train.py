"""``esp-medsam train``: the training of ``train.yaml``, its settings as options."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import Bundle, Config, Device, TrustConfig, path_of
from esp_medsam.cli.outcome import interrupted, tell_what_runs
from esp_medsam.memory import check_libraries_fit


def train(
    datalist: Annotated[
        Path,
        typer.Argument(
            parser=path_of, metavar="DATALIST", help="JSON file; see docs/reference/datalist.md."
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            parser=path_of, metavar="OUT", help="Folder of the run; the same one goes on."
        ),
    ],
    *,
    pretrained: Annotated[
        Path | None,
        typer.Option(parser=path_of, metavar="FILE", help="Weights to start from."),
    ] = None,
    epochs: Annotated[str | None, typer.Option(help="Epochs in all.")] = None,
    batch_size: Annotated[
        str | None, typer.Option("--batch_size", "--batch-size", help="Slices of a batch.")
    ] = None,
    learning_rate: Annotated[
        str | None, typer.Option("--learning_rate", "--learning-rate", help="At its highest.")
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option("--input_size", "--input-size", help="Height and width, a multiple of 32."),
    ] = None,
    frozen: Annotated[
        list[str] | None,
        typer.Option(help="Pattern over names of parameters that do not train; repeatable."),
    ] = None,
    num_workers: Annotated[
        str | None, typer.Option("--num_workers", "--num-workers", help="Loader processes.")
    ] = None,
    amp: Annotated[str | None, typer.Option(help="auto, true or false: bfloat16.")] = None,
    seed: Annotated[str | None, typer.Option(help="Of all that is drawn.")] = None,
    resume: Annotated[
        str | None,
        typer.Option(help="auto, true (there must be a checkpoint) or false (begin anew)."),
    ] = None,
    device: Device = None,
    config: Config = None,
    trust_config: TrustConfig = False,
    bundle: Bundle = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Train on a datalist, from scratch or from weights; the same command again goes on.

    Every other key of train.yaml is set by --config, as YAML of settings; the bundle's own stages
    are named there too.
    """
    from esp_medsam.workflows.train_request import read_training

    request = read_training(
        bundle,
        config or [],
        trust_config=trust_config,
        datalist=str(datalist),
        output_dir=str(output),
        pretrained=None if pretrained is None else str(pretrained),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        input_size=None if input_size is None else (input_size, input_size),
        frozen=frozen or None,
        num_workers=num_workers,
        amp=amp,
        seed=seed,
        resume=resume,
        device=device,
    )
    tell_what_runs(request)
    check_libraries_fit()
    if not (verbose or quiet):
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        logging.getLogger("esp_medsam").setLevel(logging.INFO)
    from esp_medsam.workflows.training_run import run_training  # torch: once all else is right

    try:
        run_training(request)
    except KeyboardInterrupt as error:
        raise interrupted() from error
