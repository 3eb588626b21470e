"""Write a pydicom dataset to a file."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset, dcmwrite


def is_dataset(source: object) -> bool:
    """Whether something is a dataset of pydicom."""
    return isinstance(source, Dataset)


def write_dataset(dataset: Dataset, path: Path) -> None:
    """Write a dataset as DICOM's file format, what it says unchanged.

    Raises:
        Exception: Of pydicom, in many kinds, if it cannot be such a file; its text may quote what
            the dataset says.
    """
    dcmwrite(path, dataset, enforce_file_format=True)
