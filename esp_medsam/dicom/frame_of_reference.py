"""Check that a label file shares the frame of reference of its series."""

from __future__ import annotations

from esp_medsam.errors import GeometryError
from esp_medsam.image import Image


def check_frame_of_reference(path: str, uid: str | None, image: Image, *, names_it: bool) -> None:
    """Require that a label file uses the coordinate system of a series.

    Args:
        path: The label file.
        uid: Frame of Reference UID that the label file states.
        image: Record of the series.
        names_it: Whether the file names images of the series, which suffices if either states
            no Frame of Reference.

    Raises:
        GeometryError: If the label file does not use it.
    """
    if not image.grid.is_positioned:
        msg = (
            f"DICOM labels must belong to a DICOM series with slice positions; {path} is a "
            f"label of {image.path}, which is not one."
        )
        raise GeometryError(msg)
    ours = image.frame_of_reference_uid
    if uid and ours and uid != ours:
        msg = (
            f"labels must be in their image's Frame of Reference; {path} is in {uid}, {image.path} "
            f"in {ours}."
        )
        raise GeometryError(msg)
    if not (uid and ours) and not names_it:
        msg = (
            f"labels must be in their image's Frame of Reference, or name its images; {path} and "
            f"{image.path} do not both state one, and it names none of them."
        )
        raise GeometryError(msg)
