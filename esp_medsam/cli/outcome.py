"""Tell how far a run over many items is, and how it ended: summary, failures, exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

import typer
from rich.console import Console
from rich.progress import track

from esp_medsam.cli.wording import as_options, option_line
from esp_medsam.errors import one_line


if TYPE_CHECKING:  # the workflow loads torch and MONAI, which --help must not wait for
    from esp_medsam.workflows.request import Request
    from esp_medsam.workflows.results import ItemResult, Outcome


def report(
    results: Sequence[ItemResult],
    where: str = "",
    *,
    file: TextIO | None = None,
    not_tried: str = "",
    left_alone: str = "",
) -> None:
    """Print what was done and, to stderr, what failed.

    Args:
        results: Of all items.
        where: Where what was made is, in words; not told where all failed.
        file: Where to print what was done; None prints it to stdout.
        not_tried: What was not tried because the disk was full.
        left_alone: What was not taken at all.

    Raises:
        typer.Exit: With status 1, if anything failed.
    """
    from esp_medsam.workflows.results import failures, summary, table_of

    failed = failures(results)
    told = summary(results, not_tried=not_tried, left_alone=left_alone)
    if where and len(failed) < len(results):
        told += f"; {one_line(where)}"
    print(f"{told}.", file=file or sys.stdout)
    if failed:
        print(as_options("\n".join(("Failed:", *table_of(failed)))), file=sys.stderr)
        raise typer.Exit(1)


def tell_result(result: Outcome) -> None:
    """Print a result as one line on stderr, and each of its warnings as another."""
    print(as_options(result.line), file=sys.stderr)
    for warning in result.warnings:
        print(option_line(f"{result.path}: {warning}"), file=sys.stderr)


def tell_what_runs(request: Request) -> None:
    """Say on stderr what trusted configs will run, before they do."""
    for line in request.runs:
        print(one_line(f"--trust_config: {line}"), file=sys.stderr)


def tracked(description: str, *, quiet: bool) -> Any:
    """Return what shows on stderr how far a loop is, to be called with what it loops over."""
    return partial(
        track,
        description=description,
        console=Console(stderr=True),
        transient=True,
        update_period=1.0,
        disable=quiet,
    )


def interrupted(
    outlook: str = "what is done stays, and the same command goes on",
) -> typer.Exit:
    """Say that the user ended the run; return what ends the process.

    Args:
        outlook: What there is now, and what can be done.
    """
    print(f"Interrupted; {outlook}.", file=sys.stderr)
    return typer.Exit(130)
