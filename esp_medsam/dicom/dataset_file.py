"""A dataset of pydicom as a file."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset, dcmwrite

from esp_medsam.errors import FormatError


def write_dataset(dataset: Dataset, path: Path) -> None:
    """Write a dataset as DICOM's file format, what it says unchanged.

    Raises:
        FormatError: If it lacks what a file must state, such as its transfer syntax.
    """
    try:
        dcmwrite(path, dataset, enforce_file_format=True)
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        msg = f"source must be a dataset that can be a DICOM file; got: {error}."
        raise FormatError(msg) from error
