"""Files of pydicom's own test data, and copies of them; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import UID


def shipped(name: str) -> Path:
    """Return the path of a file of pydicom's test data."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path)


def copy_shipped(path: Path, *, like: str = "CT_small.dcm", **changes: Any) -> Path:
    """Write CT_small, or another file, with other attributes.

    Args:
        path: Of the copy; its folder is made.
        like: The file to copy.
        changes: Attributes by keyword, or ``syntax``; None takes one away.
    """
    dataset = dcmread(shipped(like))
    for keyword, value in changes.items():
        if value is None:
            dataset.pop(keyword, None)
        elif keyword == "syntax":
            dataset.file_meta.TransferSyntaxUID = UID(str(value))
        else:
            setattr(dataset, keyword, value)
    if "SOPInstanceUID" in changes:
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if "PixelData" in dataset:
        is_compressed = dataset.file_meta.TransferSyntaxUID.is_compressed
        dataset["PixelData"].is_undefined_length = is_compressed
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path)
    return path


def copy_stack(folder: Path, places: Sequence[float], uid: str = "1.2.3", **changes: Any) -> Path:
    """Write CT_small at places along the patient, instances ``uid.0`` and on; return the folder."""
    for number, place in enumerate(places):
        of_slice = {"SOPInstanceUID": f"{uid}.{number}", "ImagePositionPatient": [-40, 20, place]}
        copy_shipped(folder / f"{number}.dcm", **{**of_slice, **changes})
    return folder
