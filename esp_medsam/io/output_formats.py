"""Formats of results: what a user may request, and what each format can hold."""

from __future__ import annotations

from collections.abc import Sequence

from esp_medsam.dicom.seg.write.writer import check_source, not_dicom
from esp_medsam.errors import GeometryError, OptionError, one_of, quoted
from esp_medsam.image import Image


ENDINGS = {"dicom-seg": ".dcm", "nifti": ".nii.gz", "png": ".png"}
"""Ending of file names, by output format."""


OUTPUT_FORMATS = ("auto", *ENDINGS)
"""What a user may request; ``auto`` is DICOM-SEG for DICOM, NIfTI for other volumes, else PNG."""


def read_formats(output_format: str | Sequence[str]) -> tuple[str, ...]:
    """Return the requested formats, from a list or a comma-separated string.

    Raises:
        OptionError: If one is not in :data:`OUTPUT_FORMATS`, or there is none.
    """
    parts = output_format.split(",") if isinstance(output_format, str) else output_format
    names = tuple(str(part).strip() for part in parts)
    if not names or not set(names) <= set(OUTPUT_FORMATS):
        msg = f"output_format {one_of(OUTPUT_FORMATS)}, or several; got {quoted(output_format)}."
        raise OptionError(msg)
    return names


def formats_for(output_formats: Sequence[str], *, is_volume: bool, is_dicom: bool) -> list[str]:
    """Return the formats of an input's result, each once.

    Raises:
        OptionError: If a format cannot hold the result.
    """
    usual = "dicom-seg" if is_dicom else "nifti" if is_volume else "png"
    chosen = [usual if name == "auto" else name for name in output_formats]
    if "png" in chosen and is_volume:
        msg = "output_format must not be png for volumes; got a volume. Use nifti."
        raise OptionError(msg)
    if "dicom-seg" in chosen and not is_dicom:
        raise not_dicom(usual)
    return list(dict.fromkeys(chosen))


def check_can_hold(formats: Sequence[str], image: Image) -> None:
    """Refuse an image if a format cannot hold its result.

    Args:
        formats: As :func:`formats_for` returns them.
        image: Record of the input.

    Raises:
        GeometryError: If its slices have gaps, or are frames in time, and NIfTI is requested.
        FormatError: If its files lack what a DICOM-SEG must state.
    """
    if "dicom-seg" in formats:
        check_source(image)
    if "nifti" in formats and image.grid.is_volume and image.grid.affine is None:
        what = "not evenly stacked, or differ in orientation or scale"
        what = "frames in time" if not image.grid.is_positioned else what
        msg = (
            "output_format must not be nifti unless slices are evenly stacked; those of "
            f"{image.path} ({image.name}) are {what}, which NIfTI cannot store."
        )
        raise GeometryError(msg)
