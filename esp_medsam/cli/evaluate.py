"""``esp-medsam evaluate``: score each target of each dataset, and each case."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from esp_medsam.cli import options
from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import input_size_of, option, path_argument, path_option
from esp_medsam.cli.outcome import interrupted, report, tell_what_runs, tracked
from esp_medsam.cli.wording import option_line
from esp_medsam.memory import check_libraries_fit
from esp_medsam.settings import RESAMPLES, TOLERANCE


if TYPE_CHECKING:  # loads torch and MONAI, which would slow down --help
    from esp_medsam.workflows.evaluation import EvaluationPlan
    from esp_medsam.workflows.evaluation_run import Evaluated
    from esp_medsam.workflows.evaluation_summary import Score
    from esp_medsam.workflows.request import Request


def evaluate(
    datalist: Annotated[
        Path, path_argument("DATALIST", "Datalist (JSON); see docs/reference/datalist.md.")
    ],
    *,
    section: Annotated[
        str, option("--section", "Section of the datalist: training, validation or test.")
    ] = "test",
    datasets: Annotated[
        list[str] | None, option("--dataset", "Score only this dataset; repeatable.")
    ] = None,
    targets: options.EvaluatedTargets = None,
    protocol: Annotated[
        str,
        option(
            "--protocol",
            "Protocol: native, or released (as the released evaluation script, pictures only).",
        ),
    ] = "native",
    tolerance: Annotated[
        float,
        option(
            "--tolerance",
            "Tolerance of the surface Dice in mm; in pixels where the spacing is unknown.",
        ),
    ] = TOLERANCE,
    resamples: Annotated[
        int, option("--resamples", "Bootstrap resamples of patients for the 95 % intervals.")
    ] = RESAMPLES,
    seed: Annotated[int, option("--seed", "Random seed of the resamples.")] = 0,
    cases: Annotated[
        Path | None,
        path_option(
            "--cases", "Also write the scores of each case and target to this .csv or .json file."
        ),
    ] = None,
    summary: Annotated[
        Path | None,
        path_option("--summary", "Also write the summary that --json prints to this .json file."),
    ] = None,
    compare: Annotated[
        Path | None, path_option("--compare", "Compare with another model, given its --cases file.")
    ] = None,
    plots: Annotated[
        Path | None,
        path_option(
            "--plots", "Also draw plots into this folder; needs the extra 'report'.", metavar="DIR"
        ),
    ] = None,
    plot_format: Annotated[
        str, option("--plot_format", "Format of the plots: png or svg.")
    ] = "png",
    overwrite: Annotated[bool, option("--overwrite", "Overwrite existing output files.")] = False,
    device: options.Device = None,
    input_size: options.InputSize = None,
    fast: options.Fast = False,
    flips: options.Flips = False,
    slice_smoothing: options.SliceSmoothing = None,
    threshold: options.Threshold = None,
    largest_component: options.LargestComponent = False,
    min_ml: options.MinMl = None,
    amp: options.Amp = False,
    config: options.Config = None,
    trust_config: options.TrustConfig = False,
    ckpt_path: options.CkptPath = None,
    as_json: Annotated[bool, option("--json", "Print JSON.")] = False,
    bundle: options.Bundle = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Segment the images of a datalist and score each target of each dataset.

    Images known not to contain a target are counted separately, as false alarms or not. An image
    that cannot be scored is left out of all numbers; the exit status is then 1.
    """
    del verbose  # handled by its callback
    from esp_medsam.workflows.request import read_request

    request = read_request(
        bundle,
        config or [],
        trust_config=trust_config,
        device=device,
        input_size=input_size_of(input_size, fast=fast),
        flips=flips or None,
        slice_smoothing=slice_smoothing,
        threshold=threshold,
        largest_component=largest_component or None,
        min_ml=min_ml,
        amp=amp or None,
        ckpt_path=None if ckpt_path is None else str(ckpt_path),
        targets=targets or None,
    )
    tell_what_runs(request)
    from esp_medsam.workflows.evaluation import plan_request

    request, plan = plan_request(
        request,
        datalist=datalist,
        section=section,
        datasets=datasets or None,
        protocol=protocol,
        tolerance=tolerance,
        resamples=resamples,
        seed=seed,
        cases=cases,
        summary=summary,
        compare=compare,
        plots=plots,
        plot_format=plot_format,
        overwrite=overwrite,
    )
    check_libraries_fit()
    try:
        evaluated = _evaluated(request, plan, quiet=quiet)
    except KeyboardInterrupt:
        outlook = "to start over, run the same command, with --overwrite if it has written files"
        raise interrupted(outlook) from None
    if as_json:
        print(json.dumps(evaluated.content, indent=1))
    else:
        print("\n".join(evaluated.lines))
    for path in evaluated.written:
        told = f"{len(evaluated.cases)} rows are in {path}." if path == cases else f"Wrote {path}."
        print(option_line(told), file=sys.stderr)
    report(evaluated.tally, file=sys.stderr)


def scored(
    bundle: Path,
    datalist: Path,
    *,
    section: str,
    device: str | None,
    trust_config: bool,
    quiet: bool,
) -> tuple[Score, ...]:
    """Return the scores of all targets of a bundle that a section of a datalist shows.

    Raises:
        typer.Exit: With status 1, if an image could not be scored.
    """
    from esp_medsam.workflows.evaluation import plan_request
    from esp_medsam.workflows.request import read_request

    request = read_request(bundle, trust_config=trust_config, device=device)
    request, plan = plan_request(request, datalist=datalist, section=section)
    evaluated = _evaluated(request, plan, quiet=quiet)
    if evaluated.tally.failed:
        report(evaluated.tally, file=sys.stderr)
    return evaluated.scores


def _evaluated(request: Request, plan: EvaluationPlan, *, quiet: bool) -> Evaluated:
    """Build the pipeline and score the planned images with it, showing the progress."""
    from esp_medsam.workflows.evaluation_run import evaluate_request  # loads torch: checks first

    return evaluate_request(request, plan, tracked("Evaluating", quiet=quiet))
