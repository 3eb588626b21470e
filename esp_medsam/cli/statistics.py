"""``esp-medsam statistics``: measure the segments of existing results and masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from esp_medsam.cli import options
from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import option, path_argument, path_option
from esp_medsam.cli.outcome import interrupted, report, tell_result, tracked


def statistics(
    sources: Annotated[
        list[Path],
        path_argument("IN...", "Folders of results or masks, records or masks; merged if several."),
    ],
    output: Annotated[Path, path_argument("OUT", "Table to write: .csv, .json or .parquet.")],
    *,
    images: Annotated[
        Path | None,
        path_option(
            "--images",
            "Folder of the images, for intensities; of results, the folder that was segmented.",
            metavar="FOLDER",
        ),
    ] = None,
    modality: Annotated[
        str | None,
        option(
            "--modality",
            "Modality of masks of other origin, whose values then have its names.",
            metavar="NAME",
        ),
    ] = None,
    overwrite: Annotated[bool, option("--overwrite", "Overwrite an existing table.")] = False,
    bundle: options.Bundle = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Write size, place, shape and intensity of each segment to a table, a row for each.

    Nothing is segmented again. Masks may be of any origin: NIfTI, NRRD, MetaImage or PNG.
    """
    del verbose  # handled by its callback
    from esp_medsam.modality import ModalityTable
    from esp_medsam.workflows.bundle import TABLE, find_bundle
    from esp_medsam.workflows.results import Tally
    from esp_medsam.workflows.statistics import Measured, merged
    from esp_medsam.workflows.statistics_table import check_table, write_table

    check_table(output, overwrite=overwrite)
    table = ModalityTable.read(find_bundle(bundle) / TABLE)
    measured = merged(sources, table, images=images, modality=modality)
    arriving = (result for each in measured for result in each.results())
    results: list[Measured] = []
    try:
        for result in tracked("Measuring", quiet=quiet)(arriving, total=sum(map(len, measured))):
            results.append(result)
            if result.has_failed and not quiet:
                tell_result(result)
    except KeyboardInterrupt:
        outlook = "no table was written; run the same command again"
        raise interrupted(outlook) from None
    rows = [row for result in results for row in result.rows]
    if rows:
        write_table(output, rows)
    report(Tally(results), f"{len(rows)} rows are in {output}", kind=Measured)
