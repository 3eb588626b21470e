"""``esp-medsam convert``: convert official checkpoints."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from esp_medsam.cli.options import path_of
from esp_medsam.memory import check_libraries_fit


class Origin(str, Enum):
    """Whose checkpoints can be converted."""

    delightsam = "delightsam"
    mobilesam = "mobilesam"
    sam = "sam"


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", parser=path_of, help="Official checkpoint to convert.")
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", parser=path_of, help="File to write the converted weights to."
        ),
    ],
    *,
    origin: Annotated[Origin, typer.Option("--from", help="Origin of the checkpoint.")],
    modality: Annotated[
        str | None,
        typer.Option(
            help="Modality a De-LightSAM checkpoint was trained on; the file does not say."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Overwrite OUT.")] = False,
) -> None:
    """Convert official De-LightSAM, MobileSAM or SAM weights.

    Run converted De-LightSAM weights with the bundle's delightsam.yaml, which sets the input size
    and normalization they were trained with.
    """
    from esp_medsam.workflows.conversion import check_conversion

    name = origin.value
    check_conversion(source, output, origin=name, modality=modality, overwrite=overwrite)
    check_libraries_fit()
    from esp_medsam.workflows.convert import convert as run  # torch: once all else is right

    found = run(source, output, origin=name, modality=modality, overwrite=overwrite)
    print(f"{found}: written to {output}.")
