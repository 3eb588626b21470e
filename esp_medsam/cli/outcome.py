"""Report the progress of a run and its end: summary, failures, exit status."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

import typer
from rich.console import Console
from rich.progress import track

from esp_medsam.cli.wording import as_options, option_line
from esp_medsam.errors import one_line


if TYPE_CHECKING:  # loads torch and MONAI, which would slow down --help
    from esp_medsam.workflows.request import Request
    from esp_medsam.workflows.results import Outcome, Tally


def report(
    results: Tally[Any],
    where: str = "",
    *,
    kind: type[Outcome] | None = None,
    file: TextIO | None = None,
    not_tried: str = "",
    left_alone: str = "",
) -> None:
    """Print the summary and, to stderr, the failures.

    Args:
        results: Results of all items.
        where: Where the results are, in words; not printed if all items failed.
        kind: Class of the results; None for those of items.
        file: Where to print the summary; None for stdout.
        not_tried: What was not tried because the disk was full, in words.
        left_alone: What the run did not process at all.

    Raises:
        typer.Exit: With status 1, if anything failed.
    """
    from esp_medsam.workflows.results import ItemResult, summary, table_of

    failed = results.failed
    told = summary(results, kind or ItemResult, not_tried=not_tried, left_alone=left_alone)
    if where and len(failed) < len(results):
        told += f"; {one_line(where)}"
    print(f"{told}.", file=file or sys.stdout)
    if failed:
        print(as_options("\n".join(("Failed:", *table_of(failed)))), file=sys.stderr)
        raise typer.Exit(1)


def tell_result(result: Outcome) -> None:
    """Print a result as one line on stderr, followed by a line for each warning."""
    print(as_options(result.line), file=sys.stderr)
    for warning in result.warnings:
        print(option_line(f"{result.path}: {warning}"), file=sys.stderr)


def tell_what_runs(request: Request) -> None:
    """Report on stderr which code trusted configs will run, before it runs."""
    for line in request.runs:
        print(one_line(f"--trust_config: {line}"), file=sys.stderr)


def tracked(description: str, *, quiet: bool) -> Any:
    """Return a function that wraps an iterable and shows the loop's progress on stderr."""
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
    *,
    status: int = 130,
) -> typer.Exit:
    """Report that the user ended the run; return the exception that ends the process.

    Args:
        outlook: What remains of the run, and what the user can do.
        status: Exit status: 128, and the number of the signal.
    """
    print(f"Interrupted; {outlook}.", file=sys.stderr)
    return typer.Exit(status)


@contextmanager
def signals_as_exit() -> Iterator[None]:
    """Turn terminating signals into SystemExit, so that what a command began is tidied up."""

    def end(number: int, _: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)  # only the first one counts
        raise SystemExit(128 + number)

    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Who ignores one, as nohup does, means this command, too.
    signals = [each for each in signals if signal.getsignal(each) != signal.SIG_IGN]
    before = [(each, signal.signal(each, end)) for each in signals]
    try:
        yield
    finally:
        for each, handler in before:
            signal.signal(each, handler)
