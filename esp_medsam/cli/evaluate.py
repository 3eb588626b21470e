"""``esp-medsam evaluate``: Dice per set and target of a datalist."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import Amp, Bundle, CkptPath, Device, path_of
from esp_medsam.errors import OptionError
from esp_medsam.modality import ALL


def evaluate(
    datalist: Annotated[
        Path,
        typer.Argument(
            parser=path_of, metavar="DATALIST", help="JSON file; see docs/reference/datalist.md."
        ),
    ],
    *,
    section: Annotated[str, typer.Option(help="training, validation or test.")] = "test",
    datasets: Annotated[
        list[str] | None, typer.Option("--dataset", help="Only these sets; repeatable.")
    ] = None,
    device: Device = None,
    amp: Amp = False,
    ckpt_path: CkptPath = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    bundle: Bundle = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Segment the images of a datalist and print mean Dice per set and target.

    Images known not to hold a target are counted apart: of how many nothing was found.
    """
    del verbose  # its callback sees to it
    from esp_medsam.workflows.request import read_request

    request = read_request(
        bundle,
        device=device,
        amp=amp or None,
        ckpt_path=None if ckpt_path is None else str(ckpt_path),
        targets=ALL,  # what is not ready is what numbers are wanted of
    )
    from esp_medsam.workflows.datalist import check_targets, read_datalist

    items = _chosen(read_datalist(datalist, section), datasets or [])
    for item in items:
        check_targets(item, request.table)
    from esp_medsam.workflows.evaluate import summarize, target_scores
    from esp_medsam.workflows.pipeline import read_config  # torch: once all else is right

    config = read_config(request)
    settings, inferer, network = (
        config.get_parsed_content(key) for key in ("settings", "inferer", "network")
    )
    progress = track(
        items,
        "Evaluating",
        console=Console(stderr=True),
        transient=True,
        update_period=1.0,
        disable=quiet,
    )
    scores = summarize(
        target_scores(
            progress,
            table=request.table,
            inferer=inferer,
            network=network,
            transforms=settings.transforms,
        )
    )
    if as_json:
        print(json.dumps([asdict(score) for score in scores], indent=1))
        return
    shown = Table("set", "modality", "target", "with it", "mean Dice", "without", "left empty")
    for score in scores:
        shown.add_row(
            score.dataset,
            score.modality,
            score.target,
            str(score.present),
            "" if score.dice is None else f"{score.dice:.3f}",
            str(score.absent),
            "" if score.empty is None else f"{score.empty:.0%}",
        )
    Console(width=110).print(shown)


def _chosen(items: list[dict[str, Any]], datasets: Sequence[str]) -> list[dict[str, Any]]:
    """Return the items of these sets; of none named all.

    Raises:
        OptionError: If there is no such set.
    """
    sets = [str(item.get("dataset", item["modality"])) for item in items]
    if not set(sets).issuperset(datasets):
        msg = f"dataset must be one of {', '.join(sorted(set(sets)))}; got {', '.join(datasets)}."
        raise OptionError(msg)
    named = zip(items, sets, strict=True)
    return [item for item, name in named if not datasets or name in datasets]
