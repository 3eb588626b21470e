"""Decide the unit of CT values from the file and the user's options."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from esp_medsam.errors import FormatError, OptionError
from esp_medsam.image import Image


CT_INPUTS = ("hu", "windowed")
"""What a user may state about CT values: Hounsfield units, or windowed to 8 bits."""


def with_ct_unit(image: Image, ct_input: str | None, offset: float | None) -> Image:
    """Return an image with the unit of its values; only CT values have one.

    CT values that contradict what the user states are refused; if they only might contradict it,
    the image gets a warning.

    Args:
        image: Image with its pixels and modality.
        ct_input: One of :data:`CT_INPUTS`, or None if the user states nothing.
        offset: Number that turns the values of a gray CT picture into HU when added, as stated by
            someone who knows how it was stored; None adds nothing.

    Raises:
        OptionError: If an offset is given for anything but a gray CT picture.
        FormatError: If the values contradict ``ct_input``, or nothing says that they are in HU.
    """
    is_picture = not image.sources and len(image.grid.shape) == 2
    if offset is not None:
        assert image.pixels is not None, "just read"
        if image.modality != "ct" or not is_picture or len(image.pixels) != 1:
            msg = (
                f"offset must be given for gray CT pictures only; got {offset:g} for {image.path}."
            )
            raise OptionError(msg)
        pixels = image.pixels.astype(np.float32) + np.float32(offset)
        image = replace(image, pixels=pixels, unit="HU", unit_origin="user")
    if image.modality != "ct":
        return replace(image, unit=None, unit_origin=None)
    if not image.sources and not is_picture:
        image = replace(image, unit="HU", unit_origin="assumed")
    return _with_checked_values(image, ct_input)


def _with_checked_values(image: Image, ct_input: str | None) -> Image:
    """Return a CT image whose values agree with what the user states, or refuse it."""
    assert image.pixels is not None, "just read"
    least, most = image.pixels.min(), image.pixels.max()
    in_bytes = bool(least >= 0 and most <= 255)
    if ct_input == "windowed":
        if not in_bytes:
            msg = (
                f"{image.path} must hold values from 0 to 255 with ct_input windowed; got "
                f"{least:g} to {most:g}. Leave ct_input out if they are Hounsfield units."
            )
            raise FormatError(msg)
        return replace(image, unit=None, unit_origin=None)
    if ct_input == "hu":
        image = _in_hounsfield_units(image)
    if image.unit != "HU":
        raise _no_hounsfield_units(image)
    if in_bytes and most > least and ct_input is None:
        note = (
            "The values lie between 0 and 255 and were read as Hounsfield units; pass "
            "`ct_input` windowed if this is 8-bit CT."
        )
        return replace(image, warnings=(*image.warnings, note))
    return image


def _in_hounsfield_units(image: Image) -> Image:
    """Return a CT image in Hounsfield units as the user states, if its files do not state it."""
    if image.unit_origin == "assumed":
        return replace(image, unit_origin="user")
    if image.unit == "HU" or not _may_be_in_hounsfield_units(image):
        return image
    notes = [f"The values were read as Hounsfield units because of ct_input; {image.other_unit}."]
    if image.inverted:
        notes.append("The values are as stored, although the header asks to show low values white.")
    earlier = [note for note in image.warnings if "were not read as Hounsfield units" not in note]
    return replace(image, unit="HU", unit_origin="user", warnings=(*earlier, *notes))


def _may_be_in_hounsfield_units(image: Image) -> bool:
    """Whether the user may state the unit: for gray DICOM images, whatever unit they state."""
    assert image.pixels is not None, "just read"
    return bool(image.sources) and image.pixels.shape[0] == 1


def _no_hounsfield_units(image: Image) -> FormatError:
    """Return the error that says why a CT is not in Hounsfield units, and which options help."""
    if not image.sources:
        reason, hint = "PNG, JPEG, TIFF and BMP cannot", ""
        otherwise = "or use NIfTI or DICOM"
    else:
        reason = image.other_unit
        is_open = _may_be_in_hounsfield_units(image)
        hint = "hu if its values are Hounsfield units nevertheless, " if is_open else ""
        otherwise = "or its true `modality` and `force_modality` if it is not CT"
    msg = (
        f"{image.path} must hold Hounsfield units to be CT; {reason}. Pass `ct_input` "
        f"{hint}windowed if it is 8-bit CT, {otherwise}."
    )
    return FormatError(msg)
