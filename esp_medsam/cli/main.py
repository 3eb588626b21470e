"""Entry point of the esp-medsam command: subcommands, and one line per error."""

from __future__ import annotations

import getpass
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

from esp_medsam.cli.add_target import add_target
from esp_medsam.cli.calibrate import calibrate
from esp_medsam.cli.codes import codes
from esp_medsam.cli.convert import convert
from esp_medsam.cli.datalist import datalist
from esp_medsam.cli.distill import distill, embed
from esp_medsam.cli.doctor import doctor
from esp_medsam.cli.evaluate import evaluate
from esp_medsam.cli.export import export
from esp_medsam.cli.inspect import inspect
from esp_medsam.cli.label import label
from esp_medsam.cli.loudness import Quiet, Verbose
from esp_medsam.cli.modalities import modalities
from esp_medsam.cli.new_bundle import new_bundle, pin_weights
from esp_medsam.cli.options import option
from esp_medsam.cli.pacs import pacs
from esp_medsam.cli.report import report
from esp_medsam.cli.seg2nifti import seg2nifti
from esp_medsam.cli.segment import segment
from esp_medsam.cli.statistics import statistics
from esp_medsam.cli.train import train
from esp_medsam.cli.view import view
from esp_medsam.cli.wording import as_options, set_options
from esp_medsam.errors import InputNotFoundError, OutputError, explain
from esp_medsam.version import __version__


app = typer.Typer(
    name="esp-medsam",
    help="Segment medical images of many modalities without prompts. For research only.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("segment")(segment)
app.command("inspect")(inspect)
app.command("modalities")(modalities)
app.command("convert")(convert)
app.command("datalist")(datalist)
app.command("train")(train)
app.command("distill")(distill)
app.command("embed")(embed)
app.command("add-target")(add_target)
app.command("evaluate")(evaluate)
app.command("calibrate")(calibrate)
app.command("seg2nifti")(seg2nifti)
app.command("statistics")(statistics)
app.command("report")(report)
app.command("pacs")(pacs)
app.command("label")(label)
app.command("view")(view)
app.command("codes")(codes)
app.command("doctor")(doctor)
app.command("export")(export)
app.command("new-bundle")(new_bundle)
app.command("pin-weights")(pin_weights)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    *,
    version: Annotated[bool, option("--version", "Print the version.")] = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Options of all sub-commands."""
    del verbose, quiet  # handled by their callbacks and by subcommands
    command = context.command.commands.get(context.invoked_subcommand or "")  # type: ignore[attr-defined]  # it is a group
    set_options(() if command is None else (param.name for param in command.params))
    if version:
        print(__version__)
        raise typer.Exit
    try:
        Path.cwd()
    except OSError as error:  # libraries that search it would end the process
        msg = "The current folder must exist; it was removed. Change to another folder."
        raise InputNotFoundError(msg) from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments after the program's name; None for those of the process.

    Returns:
        Exit status: 0 if all went well, 1 if anything failed, 2 for wrong usage; 130, 129 or 143
        if the command was ended by Ctrl-C, SIGHUP or SIGTERM.
    """
    _open_closed_streams()
    _name_user()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console may lack characters of a path
            stream.reconfigure(errors="backslashreplace")
    status = _status(argv)
    try:
        sys.stdout.flush()
    except OSError as error:
        return _not_printed(error)
    return status


def _open_closed_streams() -> None:
    """Open the standard streams that the parent process had closed, leading nowhere.

    Otherwise the first files that are opened would take their numbers, and text that a C library
    prints would end up in an output.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115  # stays open
            setattr(sys, name, nowhere)


def _name_user() -> None:
    """Give the user a name if the system knows none, as in a container that runs as any number.

    MONAI asks for it when it is imported.
    """
    try:
        getpass.getuser()
    except (ImportError, KeyError, OSError):  # the types differ between systems and versions
        os.environ["USER"] = "esp-medsam"


def _status(argv: Sequence[str] | None) -> int:
    try:
        # The command itself, not the app: calling an app replaces sys.excepthook for good.
        get_command(app).main(args=None if argv is None else list(argv), prog_name="esp-medsam")
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except Exception as error:
        line = explain(error)
        if line is None and isinstance(error, OSError) and error.filename is None:
            return _not_printed(error)  # all other file errors are ours
        if line is None:
            raise
        print(as_options(line), file=sys.stderr)
        return 1
    return 0


def _not_printed(error: OSError) -> int:
    """Report that the output cannot be printed, and discard the rest of it."""
    with suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    print(
        f"{OutputError.code}: standard output must be writable; got: {error.strerror}.",
        file=sys.stderr,
    )
    return 1
