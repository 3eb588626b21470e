"""Check the arguments of a conversion before any weights are read."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from esp_medsam.errors import (
    CheckpointError,
    ModalityError,
    OptionError,
    OutputError,
    OutputExistsError,
    check_one_of,
    not_found,
    one_line,
)
from esp_medsam.identity import sha256_of
from esp_medsam.modality import modality_needed
from esp_medsam.regular_file import open_regular


logger = logging.getLogger(__name__)

ORIGINS = ("delightsam", "mobilesam", "sam")
"""Networks whose checkpoints can be converted."""

RELEASED = ("dermoscopy", "xray", "ultrasound", "fundus", "microscopy", "endoscopy")
"""Modalities that De-LightSAM was released for, as in ``esp_medsam.networks.builders``."""


MOBILE_SAM = "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"
"""SHA-256 of the official ``mobile_sam.pt``."""


def check_conversion(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    origin: str,
    modality: str | None,
    overwrite: bool,
) -> None:
    """Check a conversion's arguments; for these and errors see ``workflows.convert.convert``."""
    check_one_of("from", origin, ORIGINS)
    if origin == "delightsam" and modality is None:
        raise modality_needed(RELEASED, "a De-LightSAM checkpoint", "the file does not say it")
    if origin != "delightsam" and modality is not None:
        msg = f"modality must be left out for {origin}, whose weights have none; got {modality}."
        raise OptionError(msg)
    if modality is not None:
        check_one_of("modality", modality, RELEASED, ModalityError)
    _check_regular(source)
    _refuse_input(Path(source), Path(output))
    refuse_existing(Path(output), overwrite)


def warn_of_another_mobilesam(source: str | os.PathLike[str]) -> None:
    """Warn if a file is not the official ``mobile_sam.pt``, regardless of its entries."""
    found = sha256_of(source)
    if found != MOBILE_SAM:
        told = "%s is not the official mobile_sam.pt: its SHA-256 is %s, not %s."
        logger.warning(told, one_line(os.fspath(source)), found, MOBILE_SAM)


def _check_regular(source: str | os.PathLike[str]) -> None:
    """Raise an error for a pipe, on which torch would block, and for any other non-file."""
    try:
        open_regular(source).close()
    except FileNotFoundError as error:
        raise not_found(source, argument="IN") from error
    except OSError as error:
        msg = f"IN must be a file of weights; {os.fspath(source)} cannot be read: {error.strerror}."
        raise CheckpointError(msg) from error


def _refuse_input(source: Path, target: Path) -> None:
    try:
        is_same = source.samefile(target)  # also for symbolic and hard links
    except OSError:  # one of them does not exist
        return
    if is_same:
        msg = (
            f"OUT must be another file than IN; {target} is the same file as {source}. Name "
            "another file."
        )
        raise OutputError(msg)


def refuse_existing(target: Path, overwrite: bool) -> None:
    """Refuse to replace a file unless that is allowed.

    Raises:
        OutputExistsError: If the file exists and ``overwrite`` is not set.
    """
    if os.path.lexists(target) and not overwrite:
        msg = f"{target} must not exist; it does. Name another file, or pass `overwrite`."
        raise OutputExistsError(msg)
