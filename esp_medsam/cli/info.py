"""``esp-medsam info``: parameters and operations of a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esp_medsam.cli.options import Bundle, path_of
from esp_medsam.errors import ModalityError, OptionError
from esp_medsam.memory import check_libraries_fit
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.bundle import TABLE, find_bundle
from esp_medsam.workflows.conversion import RELEASED


if TYPE_CHECKING:  # networks load torch, which --help must not wait for
    from esp_medsam.networks.summary import Design, Summary


class NetworkName(str, Enum):
    """The networks that the builders know."""

    released = "released"
    paper = "paper"
    product = "product"


INPUT_SIZES = {
    NetworkName.released: (1024, 1024),
    NetworkName.paper: (1024, 1024),
    NetworkName.product: (448, 448),
}
"""What each network is run at."""

MOST_PIXELS = 2**14
"""Of a side."""


def info(
    *,
    network: Annotated[
        NetworkName,
        typer.Option(
            help="Network to describe: as released, as drawn in the paper, or this product's."
        ),
    ] = NetworkName.product,
    modality: Annotated[
        list[str] | None,
        typer.Option(
            help="Modality to count operations for; default: the first. Repeatable for the "
            "released network, which is built for the modalities given; default: xray."
        ),
    ] = None,
    input_size: Annotated[
        tuple[int, int] | None,
        typer.Option(
            "--input_size",
            "--input-size",
            help="Input height and width in pixels, multiples of 32.",
            metavar="H W",
        ),
    ] = None,
    targets: Annotated[
        Path | None,
        typer.Option(
            parser=path_of,
            metavar="FILE",
            help="Table of modalities and targets; default: the bundle's targets.yaml for the "
            "product's network, the six published modalities for the others.",
        ),
    ] = None,
    expert_ratio: Annotated[
        float | None,
        typer.Option(
            "--expert_ratio",
            "--expert-ratio",
            min=0.01,
            max=16,
            help="Expert width of the product's network.",
        ),
    ] = None,
    tokens_per_target: Annotated[
        int | None,
        typer.Option(
            "--tokens_per_target",
            "--tokens-per-target",
            min=1,
            max=1024,
            help="Tokens per target of the product's network.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all counts as JSON.")] = False,
    bundle: Bundle = None,
) -> None:
    """Print parameters and multiply-accumulate operations by part and by modality.

    Also prints what another target and another modality would cost.
    """
    own: dict[str, Any] = {"expert_ratio": expert_ratio, "tokens_per_target": tokens_per_target}
    choices = {name: value for name, value in own.items() if value is not None}
    if choices and network is not NetworkName.product:
        msg = (
            f"{', '.join(choices)} must be left out for --network {network.value}, which fixes it."
        )
        raise OptionError(msg)
    size = INPUT_SIZES[network] if input_size is None else input_size
    if min(size) < 32 or max(size) > MOST_PIXELS or any(side % 32 for side in size):
        msg = f"input_size must be two multiples of 32, {MOST_PIXELS:,} at most; "
        msg += f"got {size[0]} {size[1]}."
        raise OptionError(msg)
    if targets is None and network is NetworkName.product:
        targets = find_bundle(bundle) / TABLE
    table = None if targets is None else ModalityTable.read(targets)
    _check_modality(network, RELEASED if table is None else table.names, modality or [])
    summary = _summarize(network, choices, table, modality or [], size)
    print(json.dumps(summary.to_json(), indent=2) if as_json else _text(network, summary))


def _check_modality(network: NetworkName, names: Sequence[str], modality: Sequence[str]) -> None:
    """Refuse modalities that there are not, and several where one counts."""
    unknown = [name for name in modality if name not in names]
    if unknown:
        msg = f"modality must be one of {', '.join(names)}; got {', '.join(unknown)}."
        raise ModalityError(msg)
    if len(modality) > 1 and network is not NetworkName.released:
        msg = f"modality must be given once for --network {network.value}; got {len(modality)}."
        raise OptionError(msg)


def _summarize(
    network: NetworkName,
    choices: dict[str, Any],
    table: ModalityTable | None,
    modality: list[str],
    input_size: tuple[int, int],
) -> Summary:
    check_libraries_fit()
    from esp_medsam.networks import builders
    from esp_medsam.networks.summary import summarize

    indices = builders.RELEASED_MODALITIES if table is None else table.indices
    names = builders.RELEASED_TARGETS if table is None else table.target_names
    if network is NetworkName.released:
        held = modality or ["xray" if "xray" in indices else next(iter(indices))]
        indices = {name: indices[name] for name in held}
    own: dict[str, Any] = {}
    if table is not None:
        own = {
            "adapted": table.adapted,
            "presence": table.presence,
            "prompt": table.prompt,
            "image_encoder": table.image_encoder,
        }
    designs: dict[NetworkName, Design] = {
        NetworkName.released: builders.build_released_design,
        NetworkName.paper: builders.build_paper,
        NetworkName.product: partial(builders.build_product, **own, **choices),
    }
    chosen = modality[0] if modality else None
    return summarize(designs[network], indices, names, input_size=input_size, modality=chosen)


def _text(network: NetworkName, summary: Summary) -> str:
    """Return the counts as columns of text."""
    height, width = summary.input_size
    rows = [("part", "parameters", f"GMACs ({summary.modality}, {height} x {width})")]
    rows += [
        (part, f"{count:,}", f"{summary.gmacs[part]:.3f}")
        for part, count in summary.parameters.items()
    ]
    rows += [("total", f"{summary.total_parameters:,}", f"{summary.total_gmacs:.3f}")]
    own = [("modality", "targets", "controller", "all its own", "GMACs")]
    own += [
        (
            name,
            str(modality.targets),
            f"{modality.controller:,}",
            f"{modality.parameters:,}",
            "-" if modality.gmacs is None else f"{modality.gmacs:.3f}",
        )
        for name, modality in summary.modalities.items()
    ]
    more = {
        "one more target": summary.one_more_target,
        "one more modality": summary.one_more_modality,
    }
    costs = [
        f"{what}: {c.parameters:+,} parameters, {c.gmacs:+.3f} GMACs" for what, c in more.items()
    ]
    return "\n".join((f"{network.value} network", *_columns(rows), "", *_columns(own), "", *costs))


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return rows as lines, the first column to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
