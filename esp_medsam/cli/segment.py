"""``esp-medsam segment``: segment an image, a volume or a folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from esp_medsam.cli import options
from esp_medsam.cli.bars import Bars
from esp_medsam.cli.engines import NO_NETWORK, Asked, EngineName, is_single, run_of
from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import input_size_of, option, path_argument, path_option
from esp_medsam.cli.outcome import interrupted, report, signals_as_exit, tell_what_runs
from esp_medsam.cli.wording import as_options, option_line
from esp_medsam.errors import EmptyInputError, EspMedSamError
from esp_medsam.memory import check_libraries_fit
from esp_medsam.modality import ALL


if TYPE_CHECKING:  # loads torch and MONAI, which would slow down --help
    from esp_medsam.workflows.engine import Pool
    from esp_medsam.workflows.journal import Journal
    from esp_medsam.workflows.plan import Plans
    from esp_medsam.workflows.request import Request
    from esp_medsam.workflows.rerun import Rerun
    from esp_medsam.workflows.results import ItemResult, Tally
    from esp_medsam.workflows.segment import SegmentRun


MOST_WORKERS = 256 if os.name != "nt" else 30
"""Number of workers that may be asked for; more is a slip, or more than Windows can wait for."""

MOST_RETRIES = 1000
"""Number of further attempts that may be asked for; more is a slip."""


def segment(
    dataset: Annotated[
        Path, path_argument("IN", "An image file, or a folder that is searched recursively.")
    ],
    output: Annotated[Path, path_argument("OUT", "Folder to write masks and records to.")],
    *,
    modality: options.Modality = None,
    force_modality: options.ForceModality = False,
    targets: options.Targets = None,
    output_format: options.OutputFormat = None,
    names: options.Names = None,
    seg_type: options.SegType = None,
    fixed_uids: Annotated[
        bool, option("--fixed_uids", "Make UIDs and times of a DICOM-SEG reproducible.")
    ] = False,
    write_empty: options.WriteEmpty = False,
    device: Annotated[
        str | None,
        option(
            "--device",
            "Device to run on: cpu, cuda, cuda:1, mps, or all: a worker on each GPU; default: "
            "cuda if there is a GPU, else cpu.",
            metavar="DEVICE",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    verify: options.Verify = False,
    split_targets: options.SplitTargets = False,
    probabilities: options.Probabilities = False,
    preview: Annotated[
        bool, option("--preview", "Also write a picture of the mask over the image.")
    ] = False,
    statistics: Annotated[
        bool,
        option(
            "--statistics",
            "Also state size, place, shape and intensity of each target in the record.",
        ),
    ] = False,
    include: options.Include = None,
    exclude: options.Exclude = None,
    part: Annotated[
        str | None,
        option(
            "--part",
            "Only take share i of N of IN, such as 3/8: N runs, on any machines, take all of it.",
            metavar="i/N",
        ),
    ] = None,
    series: options.Series = None,
    join: options.Join = None,
    frame: options.Frame = None,
    ct_input: options.CtInput = None,
    slice_axis: options.SliceAxis = None,
    input_size: options.InputSize = None,
    fast: options.Fast = False,
    flips: options.Flips = False,
    slice_smoothing: options.SliceSmoothing = None,
    threshold: options.Threshold = None,
    largest_component: options.LargestComponent = False,
    min_ml: options.MinMl = None,
    slice_batch: options.SliceBatch = None,
    runtime: options.Runtime = None,
    amp: options.Amp = False,
    config: options.Config = None,
    trust_config: options.TrustConfig = False,
    ckpt_path: options.CkptPath = None,
    bundle: options.Bundle = None,
    workers: Annotated[
        int | None,
        option(
            "--workers",
            "Processes that segment, each with the network; one that dies fails its item alone. "
            "0: this process. Default: as cores, memory and device allow.",
            min=0,
            max=MOST_WORKERS,
            envvar="ESP_MEDSAM_WORKERS",
        ),
    ] = None,
    engine: Annotated[
        EngineName,
        option("--engine", "What workers are: processes of this machine, or actors of Ray."),
    ] = EngineName.processes,
    address: Annotated[
        str | None,
        option(
            "--address",
            "Ray cluster, with --engine ray: auto, HOST:PORT or ray://HOST:PORT; default: a Ray "
            "of this machine alone, which ends with the run.",
            metavar="ADDRESS",
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        option("--timeout", "Seconds that an image or volume may take; needs workers.", min=1.0),
    ] = None,
    retry: Annotated[
        int | None,
        option(
            "--retry",
            "Try failed items up to N more times, in this run and later ones, and then leave them "
            "alone. Default: each run tries them once.",
            metavar="N",
            min=0,
            max=MOST_RETRIES,
        ),
    ] = None,
    journal: Annotated[
        Path | None,
        path_option(
            "--journal",
            "Database that notes what happened to each item; default: in OUT, if there are several "
            "items.",
        ),
    ] = None,
    rerun: Annotated[
        Path | None,
        path_option(
            "--rerun",
            "Verdicts of a report, .csv or .json: segment anew, and overwrite, only what failed "
            "there.",
        ),
    ] = None,
    dry_run: options.DryRun = False,
    as_json: options.AsJson = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Segment a file, or every image, volume and DICOM series in a folder.

    Existing results made with the same settings are kept, so an interrupted run resumes where it
    stopped.
    """
    del verbose  # handled by its callback
    from esp_medsam.workflows.request import read_request

    asked = Asked(engine=engine, address=address, device=device, workers=workers, timeout=timeout)
    asked.check()
    if rerun is not None and part is not None:
        msg = "--rerun takes what failed in one run; leave --part out"
        raise typer.BadParameter(msg)
    again = None if rerun is None else _read_rerun(rerun, dataset, output)
    request = read_request(
        bundle,
        config or [],
        trust_config=trust_config,
        dataset_dir=str(dataset),
        output_dir=str(output),
        modality=modality,
        force_modality=force_modality or None,
        series=series,
        join=join,
        frame=frame,
        targets=targets,
        output_format=output_format,
        names=names,
        seg_type=seg_type,
        fixed_uids=fixed_uids or None,
        write_empty=write_empty or None,
        device="cuda" if device == ALL else device,
        overwrite=overwrite or again is not None or None,
        verify=verify or None,
        split_targets=split_targets or None,
        probabilities=probabilities or None,
        preview=preview or None,
        statistics=statistics or None,
        include=include,
        exclude=exclude,
        part=part,
        ct_input=ct_input,
        slice_axis=slice_axis,
        input_size=input_size_of(input_size, fast=fast),
        flips=flips or None,
        slice_smoothing=slice_smoothing,
        threshold=threshold,
        largest_component=largest_component or None,
        min_ml=min_ml,
        slice_batch=slice_batch,
        runtime=runtime,
        amp=amp or None,
        ckpt_path=None if ckpt_path is None else str(ckpt_path),
    )
    tell_what_runs(request)
    from esp_medsam.workflows.planning import plans_of

    plans = plans_of(request)
    check_libraries_fit()
    from esp_medsam.workflows.pipeline import build  # loads torch and MONAI: after all checks
    from esp_medsam.workflows.results import not_tried_text

    if again is not None:
        plans = _narrowed(plans or build(request, network=NO_NETWORK).plans, again)
    if dry_run:
        _tell_plan(build(request, plans=plans, network=NO_NETWORK), as_json=as_json)
        return
    segmentation, pool = run_of(request, plans, asked, quiet=quiet, as_json=as_json)
    is_whole = segmentation.is_whole  # otherwise the verdicts that meet no item are known last
    is_alone = again is None and is_single(segmentation.plans)
    opened = _journal_of(request, journal, is_single=is_alone)
    try:
        with signals_as_exit():
            arriving = segmentation.results(pool, opened, retry)
            results = _drive(segmentation, pool, arriving, quiet=quiet, as_json=as_json)
    except KeyboardInterrupt:
        raise interrupted() from None
    except SystemExit as ended:
        raise interrupted(status=int(ended.code or 1)) from None
    if again is not None and not is_whole:
        _tell_notes(again)
    report(
        results,
        f"masks and records are in {output}",
        file=sys.stderr if as_json else None,
        not_tried=not_tried_text(len(segmentation) - len(results), is_whole=segmentation.is_whole),
        left_alone=segmentation.left_alone.volumes,
    )


def _read_rerun(path: Path, dataset: Path, output: Path) -> Rerun:
    """Return what a table of verdicts says is segmented again."""
    from esp_medsam.workflows.rerun import Rerun
    from esp_medsam.workflows.verdicts import read_verdicts

    root = dataset if dataset.is_dir() else dataset.parent
    return Rerun(read_verdicts(path, "rerun"), root, output)


def _narrowed(plans: Plans, again: Rerun) -> Plans:
    """Return the plans of what is segmented again, and tell which verdicts meet nothing."""
    narrowed = plans.narrowed(again.narrowed)
    if narrowed.is_whole:
        _tell_notes(again)
        if again.meets_nothing:
            msg = "rerun must hold a verdict `fail` on an item of the input; it holds none."
            raise EmptyInputError(msg)
    return narrowed


def _tell_notes(again: Rerun) -> None:
    for note in again.notes:
        print(option_line(note), file=sys.stderr)


def _journal_of(
    request: Request, path: Path | None, *, is_single: bool
) -> Callable[[], Journal | None] | None:
    """Return what opens the journal of a run; None if it keeps none."""
    if is_single and path is None and request.settings.get("part") is None:
        return None
    from esp_medsam.io.record import JOURNAL, JOURNALS
    from esp_medsam.run_share import RunShare
    from esp_medsam.workflows.journal import Journal, check_shares

    settings, part = request.settings, request.settings.get("part")
    share = None if part is None else RunShare.of(part)
    root, out = Path(settings["dataset_dir"]), Path(settings["output_dir"])
    root = root if root.is_dir() else root.parent

    def opened() -> Journal | None:
        if share is not None:
            check_shares(out, share)
        if path is not None:
            return Journal(path, root, settings, prefix=f"{out}{os.sep}")
        try:
            name = JOURNAL if share is None else f"{JOURNALS}-{share.name}.sqlite"
            return Journal(out / name, root, settings)
        except EspMedSamError as error:  # nobody asked for it, and it decides nothing
            print(option_line(f"{error} This run keeps no journal."), file=sys.stderr)
            return None

    return opened


def _tell_plan(segmentation: SegmentRun, *, as_json: bool) -> None:
    """Print what would be done with each item, and exit with status 1 if any would fail."""
    from esp_medsam.workflows.results import Tally
    from esp_medsam.workflows.segment import Planned

    planned = Tally[Planned]()
    for one in segmentation.planned():
        planned.add(one)
        print(json.dumps(one.to_json()) if as_json else as_options(one.line))
    left_alone = segmentation.left_alone.volumes
    report(planned, kind=Planned, file=sys.stderr if as_json else None, left_alone=left_alone)


def _drive(
    segmentation: SegmentRun,
    workers: Pool | None,
    arriving: Iterator[ItemResult],
    *,
    quiet: bool,
    as_json: bool,
) -> Tally[ItemResult]:
    """Segment every item, with a progress bar on a terminal, or else one line per item."""
    from esp_medsam.workflows.results import Tally

    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    if quiet:
        return Tally(_told(result, as_json=as_json) for result in arriving)
    told = segmentation.left_alone.text
    if told:
        console.print(f"Left alone: {told}.")
    results: Tally[ItemResult] = Tally()
    with Bars(console, segmentation, workers) as bars:
        for result in arriving:
            results.add(_told(result, as_json=as_json))
            bars.advance_item()
            if not console.is_terminal:
                console.print(as_options(result.line))
            for warning in result.warnings:
                console.print(option_line(f"{result.path}: {warning}"))
    if segmentation.left_alone.text != told:  # a large input is planned in parts
        console.print(f"Left alone: {segmentation.left_alone.text}.")
    return results


def _told(result: ItemResult, *, as_json: bool) -> ItemResult:
    """Return a result, after printing it as JSON if that is asked for."""
    if as_json:
        print(json.dumps(result.to_json()), flush=True)
    return result
