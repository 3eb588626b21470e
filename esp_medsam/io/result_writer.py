"""Write all files of a result, its record last."""

from __future__ import annotations

import os

from torch import Tensor

from esp_medsam.errors import OutputExistsError
from esp_medsam.identity import check_unchanged
from esp_medsam.image import Image, Segmentation
from esp_medsam.io.atomic import all_or_none, is_ours, remove_file
from esp_medsam.io.output_files import write_file
from esp_medsam.io.output_formats import check_can_hold
from esp_medsam.io.output_path import check_outputs, refuse_inputs
from esp_medsam.io.preview import shown_targets, write_preview
from esp_medsam.io.record import (
    check_agreement,
    file_names,
    is_there,
    read_record,
    record_of,
    write_own_json,
)
from esp_medsam.io.result_plan import ResultPlan
from esp_medsam.transforms.segment_statistics import SegmentStatistics, segment_statistics


def write_result(
    plan: ResultPlan,
    image: Image,
    segmentation: Segmentation,
    *,
    labelmap: Tensor,
    probability: Tensor | None = None,
    pixels: Tensor | None = None,
) -> None:
    """Write the planned files of one result.

    Args:
        plan: Files to write.
        image: What was segmented.
        segmentation: What was found, in the order of the plan's targets.
        labelmap: uint8 ``(1, *spatial)``.
        probability: uint8 ``(T, *spatial)``; only labelmaps can be written without it.
        pixels: ``(C, *spatial)``, needed only for the preview and for statistics of intensities.

    Raises:
        InputChangedError: If the input is no longer what was read; then nothing is written.
        InputNotFoundError: If the input is gone.
        OutputExistsError: If a result that differs, or a file that is not ours, exists.
        OutputError: If a file cannot be written; those written before it are removed.
        GeometryError: If the labelmap is not on its image's grid, or a format cannot hold the grid.
    """
    root, targets = plan.options.output_dir, plan.targets
    previous = _replaced_names(plan, image)
    with all_or_none(root) as written:
        # Without its record the old result does not count: a crash from here on mixes nothing.
        remove_file(plan.record, root)
        for file in plan.files:
            is_written = write_file(
                file,
                image,
                targets,
                labelmap=labelmap,
                probability=probability,
                seg=plan.seg,
                root=root,
            )
            written += [file.path] if is_written else []
        if plan.options.preview:
            if pixels is None:
                msg = f"preview of {plan.stem.name} needs the image, which is missing."
                raise KeyError(msg)
            shown = shown_targets(targets, segmentation, image)
            axis = plan.recipe.settings.get("slice_axis")
            drawn = pixels.numpy(), labelmap.numpy(), image, shown
            written.append(write_preview(plan.stem, *drawn, axis, root))
        # A DICOM-SEG copies what the headers say at the time of writing.
        check_unchanged(image.identity)
        for name in previous.difference(path.name for path in written):
            remove_file(plan.stem.with_name(name), root)
        empty = not bool(labelmap.any())
        record = record_of(
            plan.recipe,
            image,
            segmentation,
            targets,
            empty=empty,
            files=written,
            statistics=_measured(plan, image, labelmap, pixels),
        )
        write_own_json(plan.record, record, root)


def _measured(
    plan: ResultPlan, image: Image, labelmap: Tensor, pixels: Tensor | None
) -> list[SegmentStatistics] | None:
    """Return the statistics of each target's segment; None if they are not planned."""
    if not plan.options.statistics:
        return None
    return segment_statistics(
        labelmap[0].numpy(),
        [target.label for target in plan.targets],
        image.grid,
        None if pixels is None else pixels.numpy(),
    )


def _replaced_names(plan: ResultPlan, image: Image) -> set[str]:
    """Return the names of the files to replace; refuse those that cannot or must not be."""
    options, paths = plan.options, plan.paths
    check_can_hold(plan.recipe.formats, image)
    check_unchanged(image.identity)
    refuse_inputs(paths, image.identity)
    check_outputs(paths, options.output_dir)
    try:
        record = read_record(plan.stem)
    except OutputExistsError:
        if not options.overwrite:
            raise
        record = None
    if record and not options.overwrite:
        files = image.identity.files if image.identity is not None else ()
        paths_of_input = [file.path for file in files] or [image.path]
        check_agreement(record, plan.stem, plan.recipe, paths_of_input)
        is_there(record, plan.stem)  # files changed by hand are not replaced
    previous = set(file_names(record)) if record else set()
    for path in paths[:-1]:
        # Files left by a killed run have our mark, but no record.
        known = path.name in previous or options.overwrite
        if not known and os.path.lexists(path) and not is_ours(path):
            msg = (
                f"{path} must not exist unless this program wrote it; it does. Pass "
                "`overwrite`, or move it away."
            )
            raise OutputExistsError(msg)
    return previous
