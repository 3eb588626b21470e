"""Write a pydicom dataset to a file."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset, dcmwrite


def is_dataset(source: object) -> bool:
    """Whether an object is a pydicom dataset."""
    return isinstance(source, Dataset)


def write_dataset(dataset: Dataset, path: Path) -> None:
    """Write a dataset in the DICOM file format, with its content unchanged.

    Raises:
        Exception: One of pydicom's many kinds, if the dataset cannot be such a file; its text may
            quote the dataset's content.
    """
    dcmwrite(path, dataset, enforce_file_format=True)
