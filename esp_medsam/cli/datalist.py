"""``esp-medsam datalist``: build a datalist, or check one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from esp_medsam.cli.loudness import Quiet
from esp_medsam.cli.options import Bundle, option, path_argument, path_option
from esp_medsam.cli.outcome import tracked
from esp_medsam.cli.wording import option_line
from esp_medsam.errors import OptionError, OutputExistsError, one_line


if TYPE_CHECKING:
    from esp_medsam.modality import ModalityTable
    from esp_medsam.workflows.datalist_build import Case


def datalist(
    output: Annotated[Path | None, path_argument("FILE", "Datalist to write (JSON).")] = None,
    *,
    check: Annotated[
        Path | None, path_option("--check", "Check this datalist and write nothing.")
    ] = None,
    images: Annotated[
        str | None,
        option(
            "--images",
            "Pattern of image paths: {case} where cases differ; *, ? and **/ as in a shell.",
            metavar="PATTERN",
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        option(
            "--labels",
            "Pattern of a target's mask paths, with the same {case}; append #1,2 to select values "
            "of a label map; repeatable.",
            metavar="TARGET=PATTERN",
        ),
    ] = None,
    unknown: Annotated[
        str | None,
        option(
            "--unknown",
            "Pattern of masks of the pixels to ignore, because their label is unknown.",
            metavar="PATTERN",
        ),
    ] = None,
    absent: Annotated[
        list[str] | None,
        option("--absent", "Target that no image shows; repeatable.", metavar="NAME"),
    ] = None,
    table: Annotated[
        Path | None,
        path_option(
            "--csv",
            "CSV with one row per image, in place of patterns; see docs/reference/datalist.md.",
        ),
    ] = None,
    root: Annotated[
        Path, path_option("--root", "Folder that patterns are relative to.", metavar="FOLDER")
    ] = Path(),
    modality: Annotated[
        str | None,
        option(
            "--modality",
            "Modality of the images; `esp-medsam modalities` lists them.",
            metavar="NAME",
        ),
    ] = None,
    dataset: Annotated[
        str | None, option("--dataset", "Name of the dataset.", metavar="NAME")
    ] = None,
    ct_input: Annotated[
        str | None,
        option(
            "--ct_input",
            "Unit of CT values: hu, or windowed for 8-bit CT.",
            metavar="hu|windowed",
        ),
    ] = None,
    offset: Annotated[
        float | None,
        option(
            "--offset",
            "Value to add to grayscale CT pictures to get Hounsfield units.",
            metavar="FLOAT",
        ),
    ] = None,
    split: Annotated[
        str,
        option(
            "--split", "Percentages of training, validation and test images.", metavar="INT,INT,INT"
        ),
    ] = "70,15,15",
    seed: Annotated[int, option("--seed", "Random seed of the split.", min=0, metavar="INT")] = 0,
    patient: Annotated[
        str | None,
        option(
            "--patient",
            "Regular expression that finds the patient in an image path; default: DICOM "
            "Patient ID, the CSV column, or the case.",
            metavar="REGEX",
        ),
    ] = None,
    targets: Annotated[
        Path | None,
        path_option(
            "--targets",
            "YAML of targets that are not in the bundle yet, as add-target takes it.",
        ),
    ] = None,
    overwrite: Annotated[bool, option("--overwrite", "Overwrite FILE.")] = False,
    as_json: Annotated[bool, option("--json", "Print counts as JSON.")] = False,
    bundle: Bundle = None,
    quiet: Quiet = False,
) -> None:
    """Build the datalist that training and evaluation read, or check one.

    The images of a patient all go to one section. A target whose mask is empty counts as absent.
    Nothing is written if the datalist would have errors.
    """
    from esp_medsam.workflows.datalist_split import shares_of

    building = (output, images, table)
    if check is not None and any(given is not None for given in building):
        msg = "--check cannot be combined with FILE, --images or --csv"
        raise typer.BadParameter(msg)
    if check is None and (output is None or (images is None) == (table is None)):
        msg = "pass FILE with --images or --csv, or pass --check alone"
        raise typer.BadParameter(msg)
    known = _table_with(bundle, targets)
    if check is not None:
        _check_file(check, known, quiet=quiet)
        return
    assert output is not None, "just checked"
    if output.suffix.lower() != ".json":  # which also protects images and masks
        msg = f"FILE must end in .json; got {output}."
        raise OptionError(msg)
    if os.path.lexists(output) and not overwrite:
        msg = f"FILE must not exist; {output} does. Pass --overwrite to replace it."
        raise OutputExistsError(msg)
    shares = shares_of(split)
    name = None if modality is None else known[modality].name
    given = {"dataset": dataset, "ct_input": ct_input, "offset": offset}
    more = {key: value for key, value in given.items() if value is not None}
    cases = _cases(images, labels, unknown, absent, table, root, name, more)
    _write(output, cases, known, shares, seed, patient, as_json=as_json, quiet=quiet)


def _table_with(bundle: Path | None, targets: Path | None) -> ModalityTable:
    """Return the table of a bundle, extended by the targets to add."""
    from esp_medsam.modality import ModalityTable
    from esp_medsam.workflows.additions import read_additions
    from esp_medsam.workflows.bundle import TABLE, find_bundle

    own = find_bundle(bundle) / TABLE
    return ModalityTable.read(own) if targets is None else read_additions(targets, own).table


def _cases(
    images: str | None,
    labels: list[str] | None,
    unknown: str | None,
    absent: list[str] | None,
    table: Path | None,
    root: Path,
    modality: str | None,
    more: dict[str, Any],
) -> list[Case]:
    """Return the requested cases; refuse options that do not go together."""
    from esp_medsam.workflows.datalist_build import cases_of_csv, cases_of_patterns

    if table is not None:
        if labels or unknown or absent:
            msg = "--csv cannot be combined with --labels, --unknown or --absent"
            raise typer.BadParameter(msg)
        return cases_of_csv(table, modality=modality, more=more)
    assert images is not None, "one of the two is given"
    if modality is None:
        msg = "--images needs --modality"
        raise typer.BadParameter(msg)
    if not labels and not absent:
        msg = "--images needs --labels or --absent"
        raise typer.BadParameter(msg)
    paired = cases_of_patterns(
        images,
        labels or [],
        modality=modality,
        root=root,
        unknown=unknown,
        absent=absent or [],
        more=more,
    )
    for note in paired.notes:
        print(option_line(note), file=sys.stderr)
    return paired.cases


def _write(
    output: Path,
    cases: list[Case],
    table: ModalityTable,
    shares: Sequence[float],
    seed: int,
    patient: str | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    from esp_medsam.io.atomic import atomic_file
    from esp_medsam.workflows.datalist_build import find_patients, settle_absent
    from esp_medsam.workflows.datalist_check import faults_of
    from esp_medsam.workflows.datalist_sections import build_sections, counts_of

    if any(case.section is None for case in cases):
        find_patients(cases, patient)
    unseen = quiet or not sys.stderr.isatty()
    for case in tracked("Reading masks", quiet=unseen)(cases):
        if case.modality in table.names:  # an unknown one is reported below
            settle_absent(case)
    here = Path()  # the folder of the output may not exist yet
    bar = tracked("Looking it over", quiet=unseen)
    looked_over = build_sections(cases, shares, seed, here)
    _refuse([str(fault) for fault in faults_of(looked_over, here, table, tracked=bar)], output)
    sections = build_sections(cases, shares, seed, output.parent)
    with atomic_file(output) as file:
        file.write((json.dumps(sections, indent=1, ensure_ascii=False) + "\n").encode())
    counts = list(counts_of(sections))
    if as_json:
        print(json.dumps([count._asdict() for count in counts], indent=1))
    else:
        shown = Table("section", "modality", "set", "target", "with it", "without", "images")
        for count in counts:
            shown.add_row(*map(str, count))
        Console(width=110).print(shown)
    told = ", ".join(f"{name} {len(items)}" for name, items in sections.items())
    print(one_line(f"{output}: {told}."), file=sys.stderr)


def _check_file(path: Path, table: ModalityTable, *, quiet: bool) -> None:
    """Print the faults of a datalist; the exit status says whether it has any."""
    from esp_medsam.workflows.datalist import SECTIONS, read_sections
    from esp_medsam.workflows.datalist_check import faults_of

    sections = read_sections(path)
    bar = tracked("Looking it over", quiet=quiet or not sys.stderr.isatty())
    faults = faults_of(sections, path.parent, table, tracked=bar)
    _refuse([str(fault) for fault in faults], path)
    told = ", ".join(f"{name} {len(sections.get(name, ()))}" for name in SECTIONS)
    print(one_line(f"{path}: no faults; {told}."))


def _refuse(faults: Sequence[str], path: Path) -> None:
    """Print faults, one per line, and end with an error if there are any."""
    from esp_medsam.workflows.datalist import MOST_FAULTS

    for fault in faults:
        print(option_line(fault))
    if faults:
        count = f"more than {MOST_FAULTS}" if len(faults) > MOST_FAULTS else str(len(faults))
        msg = f"datalist must have no faults; {path} has {count}."
        raise OptionError(msg)
