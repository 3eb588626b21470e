"""``esp-medsam new-bundle`` and ``pin-weights``: bundles for your own targets and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from esp_medsam.cli.options import Bundle, option, path_argument, path_option
from esp_medsam.errors import one_line
from esp_medsam.memory import check_libraries_fit


def new_bundle(
    folder: Annotated[Path, path_argument("FOLDER", "Folder to create for the bundle.")],
    *,
    targets: Annotated[
        Path,
        path_option(
            "--targets", "YAML of modalities and targets, in the format of configs/targets.yaml."
        ),
    ],
    bundle: Bundle = None,
) -> None:
    """Create a bundle for your own modalities and targets, to train and segment with.

    It has the configs of the installed bundle, but no weights: pin-weights adds those you trained.
    """
    from esp_medsam.workflows.new_bundle import new_bundle as make

    table = make(folder, targets, source=bundle)
    count = sum(len(modality.targets) for modality in table.modalities)
    said = f"{count} target{'' if count == 1 else 's'} of {', '.join(table.names)}"
    print(one_line(f"{folder}: a bundle of {said}, without weights."))


def pin_weights(
    folder: Annotated[Path, path_argument("BUNDLE", "Bundle folder.")],
    weights: Annotated[Path, path_argument("FILE", "Weights that training wrote.")],
    *,
    overwrite: Annotated[
        bool, option("--overwrite", "Overwrite weights the bundle already has.")
    ] = False,
) -> None:
    """Add trained weights to a bundle, and record their hash and expected output in its metadata.

    Segmentation then refuses to run with any other weights file, or on a machine that computes
    different results.
    """
    from esp_medsam.workflows.bundle import WEIGHTS, check_free

    check_free(folder, weights, overwrite=overwrite)
    check_libraries_fit()
    from esp_medsam.workflows.weights import place_weights  # loads torch: after all checks

    place_weights(folder, weights, overwrite=overwrite)
    print(one_line(f"{weights}: copied to {folder / WEIGHTS}; its hash is recorded."))
