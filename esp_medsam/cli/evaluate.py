"""``esp-medsam evaluate``: Dice per set and target of a datalist, and of each case."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import (
    Amp,
    Bundle,
    CkptPath,
    Config,
    Device,
    TrustConfig,
    path_of,
)
from esp_medsam.cli.outcome import tell_what_runs
from esp_medsam.errors import one_line
from esp_medsam.memory import check_libraries_fit


if TYPE_CHECKING:  # the workflow loads torch and MONAI, which --help must not wait for
    from esp_medsam.workflows.evaluate import Score, TargetScore


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
    targets: Annotated[
        list[str] | None,
        typer.Option("--targets", help="Only these, repeated or with commas; all by default."),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(
            parser=path_of,
            metavar="FILE",
            help="Also write a row for each case and target: .csv or .json.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE of cases.")] = False,
    device: Device = None,
    amp: Amp = False,
    config: Config = None,
    trust_config: TrustConfig = False,
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
        config or [],
        trust_config=trust_config,
        device=device,
        amp=amp or None,
        ckpt_path=None if ckpt_path is None else str(ckpt_path),
        targets=targets or None,
    )
    tell_what_runs(request)
    from esp_medsam.workflows.datalist import read_datalist
    from esp_medsam.workflows.evaluation import (
        check_cases_file,
        chosen_items,
        with_all_targets,
        write_cases,
    )

    request = with_all_targets(request)
    listed = read_datalist(datalist, section)
    items = chosen_items(listed, datasets or [], request.settings.get("targets"), request.table)
    if cases is not None:
        check_cases_file(cases, datalist, listed, overwrite=overwrite)
    check_libraries_fit()
    from esp_medsam.workflows.evaluate import summarize, target_scores
    from esp_medsam.workflows.pipeline import read_config  # torch: once all else is right

    parsed = read_config(request)
    settings, table, inferer, network = (
        parsed.get_parsed_content(key) for key in ("settings", "table", "inferer", "network")
    )
    tracked = partial(
        track,
        description="Evaluating",
        console=Console(stderr=True),
        transient=True,
        update_period=1.0,
        disable=quiet,
    )
    scores = list(
        target_scores(
            items,
            table=table,
            inferer=inferer,
            network=network,
            transforms=settings.transforms,
            ct_input=settings.ct_input,
            frame=settings.frame,
            tracked=tracked,
        )
    )
    if cases is not None:
        write_cases(cases, [_row(score, datalist) for score in scores])
    _print(summarize(scores), as_json=as_json)
    if cases is not None:
        print(one_line(f"{len(scores)} rows are in {cases}."), file=sys.stderr)


def _row(score: TargetScore, datalist: Path) -> dict[str, Any]:
    """Return a case as a row, its image named from the datalist's folder on."""
    path = Path(score.image)
    inside = path.is_relative_to(datalist.parent)
    return {
        **score._asdict(),
        "image": path.relative_to(datalist.parent).as_posix() if inside else score.image,
    }


def _print(scores: Sequence[Score], *, as_json: bool) -> None:
    """Print the means, as JSON or as a table."""
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
