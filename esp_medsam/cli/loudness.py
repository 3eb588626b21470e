"""The options ``--verbose`` and ``--quiet``, before a subcommand or after it."""

from __future__ import annotations

import logging
from typing import Annotated

import typer


def _log_steps(value: bool) -> bool:
    """Write the log to stderr from now on, if ``value`` is true."""
    if value:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    return value


def _here_or_before(ctx: typer.Context, value: bool) -> bool:
    """Whether ``--quiet`` was given, after the subcommand's name or before it."""
    return value or bool(ctx.find_root().params.get("quiet"))


Verbose = Annotated[
    bool,
    typer.Option("-v", "--verbose", help="Log each step to standard error.", callback=_log_steps),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "-q",
        "--quiet",
        help="Only print failures and the final summary.",
        callback=_here_or_before,
    ),
]
