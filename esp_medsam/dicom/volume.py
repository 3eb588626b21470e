"""Slices and volumes of a DICOM study, as their headers describe them."""

from __future__ import annotations

from dataclasses import dataclass, field

from esp_medsam.grid import Grid
from esp_medsam.identity import FileState
from esp_medsam.image import SourceInstance


Position = tuple[float, float, float]
"""Image Position (Patient) (0020,0032): center of the first pixel, LPS, in mm."""

Orientation = tuple[float, float, float, float, float, float]
"""Image Orientation (Patient) (0020,0037): directions of rising column, then row index; LPS."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomSlice:
    """The image in a file, or one of its frames, as the header describes it.

    Attributes:
        source: The file, the instance and the frame.
        rows: Number of rows.
        columns: Number of columns.
        position: Position of the first pixel; None if not stated.
        orientation: Orientation of the image; None if not stated.
        pixel_spacing: Distance in mm between rows, then between columns; None if not stated.
        slope: Rescale Slope (0028,1053), finite and not zero; 1 if the file has none.
        intercept: Rescale Intercept (0028,1052), finite; 0 if the file has none.
        rescale_type: Rescale Type (0028,1054), the unit of the rescaled values, such as ``HU``;
            None if not stated.
        thickness: Slice Thickness (0018,0050) in mm; None if not stated.
        image_type: Image Type (0008,0008), or Frame Type of a frame, value by value.
        dimensions: Attribute keywords and values that may distinguish it from another slice in the
            same place, in the order in which they split volumes.
    """

    source: SourceInstance
    rows: int
    columns: int
    position: Position | None = None
    orientation: Orientation | None = None
    pixel_spacing: tuple[float, float] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    # Text from files is left out of the repr, because it may name the patient.
    rescale_type: str | None = field(default=None, repr=False)
    thickness: float | None = None
    image_type: tuple[str, ...] = field(default=(), repr=False)
    dimensions: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def where(self) -> str:
        """The file, and the frame if it holds several, for messages."""
        frame = self.source.frame
        return self.source.path if frame is None else f"{self.source.path} (frame {frame})"


@dataclass(frozen=True, kw_only=True, eq=False)
class DicomVolume:
    """One image, cine or stack of slices, which is segmented and written as a unit.

    Attributes:
        name: Name of its outputs: the Series Instance UID, with the values that the series was
            split by; for images without a position, the SOP Instance UID.
        former_name: Name of its outputs in earlier versions; empty if it is the same. It may hold
            text from its files, so it is only searched for and never shown.
        slices: Its slices in stack order, or its frames in time order.
        grid: The grid of its slices.
        states: Its files, sorted, each with its file-system state before its header was read.
        sop_class_uid: The SOP Class UID of its files.
        study_uid: Study Instance UID.
        series_uid: Series Instance UID.
        frame_of_reference_uid: Frame of Reference UID.
        dicom_modality: Modality (0008,0060).
        split: Keyword, and number or rank of the value, of each attribute that distinguishes it
            from the other volumes of its series.
        warnings: Warnings for the user, including those about its geometry.
        joined: Joins of the user that it needed, such as ``"series"``.
    """

    name: str
    slices: tuple[DicomSlice, ...]
    grid: Grid
    sop_class_uid: str
    states: tuple[tuple[str, FileState], ...] = ()
    study_uid: str | None = None
    series_uid: str | None = None
    frame_of_reference_uid: str | None = None
    dicom_modality: str | None = None
    split: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    former_name: str = field(default="", repr=False)
