"""``esp-medsam convert``: convert official checkpoints."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

from esp_medsam.cli.options import option, path_argument
from esp_medsam.memory import check_libraries_fit


class Origin(str, Enum):
    """Origins of the checkpoints that can be converted."""

    delightsam = "delightsam"
    mobilesam = "mobilesam"
    sam = "sam"


def convert(
    source: Annotated[Path, path_argument("IN", "Official checkpoint to convert.")],
    output: Annotated[Path, path_argument("OUT", "File to write the converted weights to.")],
    *,
    origin: Annotated[Origin, option("--from", "Where the checkpoint comes from.")],
    modality: Annotated[
        str | None,
        option(
            "--modality",
            "Modality that a De-LightSAM checkpoint was trained on, which the file does not say.",
            metavar="NAME",
        ),
    ] = None,
    overwrite: Annotated[bool, option("--overwrite", "Overwrite OUT.")] = False,
) -> None:
    """Convert official De-LightSAM, MobileSAM or SAM weights.

    To run converted De-LightSAM weights, pass the bundle's delightsam.yaml as --config: it sets the
    input size and normalization that they were trained with.
    """
    from esp_medsam.workflows.conversion import check_conversion

    name = origin.value
    check_conversion(source, output, origin=name, modality=modality, overwrite=overwrite)
    check_libraries_fit()
    from esp_medsam.workflows.convert import convert as run  # loads torch: after all checks

    found = run(source, output, origin=name, modality=modality, overwrite=overwrite)
    print(f"{found}: written to {output}.")
