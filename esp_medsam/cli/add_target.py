"""``esp-medsam add-target``: add a modality or target to existing weights."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

from esp_medsam.cli import training_options
from esp_medsam.cli.evaluate import scored
from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import Bundle, Device, TrustConfig, path_argument, path_option
from esp_medsam.cli.outcome import interrupted
from esp_medsam.cli.train import run_to_the_end
from esp_medsam.cli.wording import option_line
from esp_medsam.errors import one_line
from esp_medsam.workflows.bundle import WEIGHTS


def add_target(
    datalist: Annotated[
        Path, path_argument("DATALIST", "Datalist (JSON) of images of the new modality or target.")
    ],
    output: Annotated[Path, path_argument("OUT", "Folder to create for the extended bundle.")],
    *,
    targets: Annotated[
        Path,
        path_option(
            "--targets",
            "YAML of the new modalities and targets, in the format of configs/targets.yaml.",
        ),
    ],
    run: Annotated[
        Path | None,
        path_option(
            "--run",
            "Run folder for checkpoints, curves and pictures; default: OUT-training.",
            metavar="FOLDER",
        ),
    ] = None,
    epochs: training_options.Epochs = None,
    batch_size: training_options.BatchSize = None,
    learning_rate: training_options.LearningRate = None,
    num_workers: training_options.NumWorkers = None,
    seed: training_options.Seed = None,
    device: Device = None,
    config: training_options.Overlays = None,
    trust_config: TrustConfig = False,
    bundle: Bundle = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Add a modality or target to a bundle from about twenty images, and change no existing one.

    OUT becomes a bundle that segments everything the old one does, plus what was added. Run the
    same command again to resume. --config sets any other key of train.yaml.
    """
    from esp_medsam.workflows.add_targets import addition_request, prepare_addition, write_card

    output = output.absolute()
    folder = output.with_name(f"{output.name}-training") if run is None else run
    origin, additions = prepare_addition(output, targets, datalist, source=bundle)
    request = addition_request(
        output,
        origin,
        additions,
        trust_config=trust_config,
        overlays=config or [],
        datalist=str(datalist),
        output_dir=str(folder),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        num_workers=num_workers,
        seed=seed,
        device=device,
    )
    run_to_the_end(request, told=not (verbose or quiet))
    # loads torch: after all checks
    from esp_medsam.workflows.unmoved import check_unmoved
    from esp_medsam.workflows.weights import place_weights

    try:
        check_unmoved(folder / "model.pt", origin / WEIGHTS)
        place_weights(output, folder / "model.pt", overwrite=True)
        scores = scored(
            output,
            datalist,
            section="validation",
            device=device,
            trust_config=trust_config,
            quiet=quiet,
        )
    except KeyboardInterrupt as error:
        raise interrupted() from error
    write_card(output, origin, additions, datalist, scores)
    for score in scores:
        if (score.modality, score.target) in additions.targets:
            dice = "none" if score.dice is None else f"{score.dice:.3f}"
            told = f"{score.dataset}, {score.modality}, {score.target}: Dice {dice} of validation."
            print(option_line(told), file=sys.stderr)
    modality, name = additions.targets[0]
    asked = f"--modality {modality} --targets {name} --bundle {shlex.quote(str(output))}"
    print(one_line(f"{output}: done. Segment with: esp-medsam segment IN OUT {asked}"))
