"""``esp-medsam inspect``: show how files are understood, without segmenting them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from esp_medsam.cli import options
from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import input_size_of, option, path_argument, path_option
from esp_medsam.cli.outcome import interrupted, tell_what_runs
from esp_medsam.cli.wording import as_options, option_line
from esp_medsam.errors import one_line
from esp_medsam.memory import check_libraries_fit


if TYPE_CHECKING:  # loads torch and MONAI, which would slow down --help
    from esp_medsam.workflows.describe import Description
    from esp_medsam.workflows.inspect import Inspected, Inspection
    from esp_medsam.workflows.request import Request


def inspect(
    path: Annotated[
        Path, path_argument("PATH", "An image file, or a folder that is searched recursively.")
    ],
    *,
    modality: options.Modality = None,
    force_modality: options.ForceModality = False,
    preview: Annotated[
        Path | None, path_option("--preview", "Draw what the network will see into this PNG file.")
    ] = None,
    overwrite: Annotated[bool, option("--overwrite", "Overwrite an existing preview.")] = False,
    include: options.Include = None,
    exclude: options.Exclude = None,
    series: options.Series = None,
    join: options.Join = None,
    frame: options.Frame = None,
    ct_input: options.CtInput = None,
    slice_axis: options.SliceAxis = None,
    input_size: options.InputSize = None,
    config: options.Config = None,
    trust_config: options.TrustConfig = False,
    bundle: options.Bundle = None,
    as_json: Annotated[
        bool, option("--json", "Print one JSON object per item, one per line.")
    ] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Print how each image, volume and DICOM series is understood, and which are refused and why.

    Nothing is segmented and no weights are needed. The exit status is 1 if any item is refused.
    """
    del verbose  # handled by its callback
    from esp_medsam.workflows.request import read_request

    request = read_request(
        bundle,
        config or [],
        trust_config=trust_config,
        dataset_dir=str(path),
        device="cpu",
        modality=modality,
        force_modality=force_modality or None,
        targets="all",  # nothing is segmented, so no target needs to be ready
        include=include,
        exclude=exclude,
        series=series,
        join=join,
        frame=frame,
        ct_input=ct_input,
        slice_axis=slice_axis,
        input_size=input_size_of(input_size),
    )
    tell_what_runs(request)
    from esp_medsam.workflows.inspect import check_sheet

    inspection = _build(request, draw=preview is not None)
    if preview is not None:
        check_sheet(preview, path, overwrite=overwrite)
    counts = Counter[str]()  # nothing else is kept of what may be millions of items
    try:
        for result in inspection.results():
            if result.has_failed or not quiet:
                _print(result, as_json=as_json)
            counts[result.status] += 1
    except KeyboardInterrupt:
        raise interrupted(outlook="nothing was written") from None
    if preview is not None and inspection.tiles:
        from esp_medsam.io.contact_sheet import write_sheet

        write_sheet(preview, inspection.tiles)
    _print_rest(inspection, counts, preview, quiet=quiet)
    if counts["refused"]:
        raise typer.Exit(1)


def _build(request: Request, *, draw: bool) -> Inspection:
    """Plan what to describe; load torch and MONAI only if images are to be prepared."""
    from esp_medsam.workflows.inspect import build_inspection
    from esp_medsam.workflows.planning import is_plain

    if not draw and is_plain(request):
        return build_inspection(request)
    check_libraries_fit()
    from esp_medsam.workflows.inspect_prepared import build_prepared_inspection

    return build_prepared_inspection(request, draw=draw)


def _print(result: Inspected, *, as_json: bool) -> None:
    """Print one item, as a line of JSON or as a block of text."""
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    described = result.description
    warnings = [as_options(warning) for warning in result.warnings]
    if as_json:
        told: dict[str, Any] = {
            "status": result.status,
            "path": result.source,
            "volume": result.volume,
        }
        if described is None:
            told |= {"code": result.code, "message": as_options(result.message)}
        else:
            told |= {**asdict(described), "warnings": warnings}
        print(json.dumps(told))
        return
    console.print(one_line(result.path), style="bold")
    if described is None:
        why = option_line(f"{result.code}: {result.message}")
        console.print(f"  {result.status:<12} {why}", style="red")
        return
    for name, value in _lines(described):
        console.print(f"  {name:<12} {one_line(value)}")
    for warning in warnings:
        console.print(f"  {'warning':<12} {one_line(warning)}", style="yellow")


def _lines(described: Description) -> Iterator[tuple[str, str]]:
    """Yield the description of an item line by line, as label and text."""
    files = f", {described.files} files" if described.files > 1 else ""
    if described.file not in (None, described.path):  # the item's file in the folder
        files = f", {Path(str(described.file)).name}"
    yield "kind", described.kind + files
    yield "modality", _modality(described)
    colors = ", 3 channels" if described.channels == 3 else ""
    named = described.axes != ("i", "j", "k")
    lengths = (
        f"{length} {axis if length != 1 else axis[:-1]}" if named else str(length)
        for length, axis in zip(described.shape, described.axes, strict=True)
    )
    yield "grid", " x ".join(lengths) + colors
    steps = [step for step in described.spacing or () if step is not None]
    rest = "; each slice at its own position" if described.plane and len(steps) == 2 else ""
    yield "spacing", f"{' x '.join(f'{s:.6g}' for s in steps)} mm{rest}" if steps else "not stated"
    turned = f", oblique by {described.oblique:g} degrees" if described.oblique else ""
    yield "orientation", described.orientation + turned if described.orientation else "not stated"
    if len(described.shape) == 3:
        yield "slices", f"{described.slices} {described.plane or 'frames'}"
    least, most = (
        f"{value:.6g}" if value % 1 else f"{value:.0f}" for value in described.intensities
    )
    given = " as given" if described.unit_origin == "user" else ""
    unit = f"{described.unit}{given}" if described.unit else None
    unit = unit or ("no unit" if described.modality else "as stored")
    yield "intensities", f"{least} to {most} ({unit}, {described.dtype})"


def _modality(described: Description) -> str:
    """Return the modality, and who stated it."""
    if described.modality is None:
        said = f"; DICOM says {described.dicom_modality!r}" if described.dicom_modality else ""
        return f"not given{said}; described as stored, say it with --modality"
    origins = {
        "user": "given",
        "dicom": f"DICOM says {described.dicom_modality!r}",
        "forced": f"given and forced, DICOM says {described.dicom_modality!r}",
    }
    return f"{described.modality} ({origins[str(described.modality_origin)]})"


def _print_rest(
    inspection: Inspection, counts: Mapping[str, int], preview: Path | None, *, quiet: bool
) -> None:
    """Report on stderr the files that are no items, the counts, and the path of the preview."""
    from esp_medsam.workflows.inspect import Inspected
    from esp_medsam.workflows.results import counts_text

    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
    if inspection.left_alone and not quiet:
        console.print(f"Left alone: {inspection.left_alone}.")
    if len(inspection) > 1 or quiet:
        console.print(f"{counts_text(counts, Inspected)}.")
    if preview is None:
        return
    if not inspection.tiles:
        console.print("No preview: there is nothing to draw.")
        return
    more = f"; {inspection.undrawn} more items did not fit" if inspection.undrawn else ""
    console.print(one_line(f"Preview: {preview}, as the network will see it{more}."))
