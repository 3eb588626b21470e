"""``esp-medsam seg2nifti``: convert DICOM Segmentations of any origin to NIfTI."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.options import Verify, option, path_argument, path_option
from esp_medsam.cli.outcome import interrupted, report, tell_result


def seg2nifti(
    source: Annotated[
        Path, path_argument("IN", "A DICOM-SEG file, or a folder of DICOM-SEG files.")
    ],
    output: Annotated[Path, path_argument("OUT", "Folder to write NIfTI files to.")],
    *,
    like: Annotated[
        Path | None,
        path_option(
            "--like",
            "Write on the grid of this image: a NIfTI file or a DICOM folder.",
            metavar="PATH",
        ),
    ] = None,
    split_segments: Annotated[
        bool, option("--split_segments", "Write one 0/1 file per segment instead of a labelmap.")
    ] = False,
    overwrite: Annotated[bool, option("--overwrite", "Overwrite existing files.")] = False,
    verify: Verify = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Convert DICOM Segmentations to NIfTI, with a JSON file that describes each segment.

    Label values are segment numbers. Overlapping segments need --split_segments; FRACTIONAL ones
    always get a file each, with values from 0 to 1. Without --like, the grid spans the planes from
    the first to the last that holds a segment.
    """
    del verbose  # handled by its callback
    from esp_medsam.workflows.results import ItemResult, Tally, not_tried_text
    from esp_medsam.workflows.seg2nifti import Seg2Nifti

    conversion = Seg2Nifti(
        source,
        output,
        like=like,
        split_segments=split_segments,
        overwrite=overwrite,
        verify=verify,
    )
    if conversion.left_alone and not quiet:
        print(f"Left alone: {conversion.left_alone}.", file=sys.stderr)
    results = Tally[ItemResult]()
    try:
        for result in conversion.results():
            results.add(result)
            if not quiet:
                tell_result(result)
    except KeyboardInterrupt:
        raise interrupted() from None
    report(
        results, f"files are in {output}", not_tried=not_tried_text(len(conversion) - len(results))
    )
