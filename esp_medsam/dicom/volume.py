"""Slices and volumes of a DICOM study, as their headers describe them."""

from __future__ import annotations

from dataclasses import dataclass, field

from esp_medsam.grid import Grid
from esp_medsam.identity import FileState
from esp_medsam.image import SourceInstance


Position = tuple[float, float, float]
"""Image Position (Patient) (0020,0032): center of the first pixel, LPS, in mm."""

Orientation = tuple[float, float, float, float, float, float]
"""Image Orientation (Patient) (0020,0037): direction in which columns count up, then rows; LPS."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomSlice:
    """One image of a file, or one frame of it, as its header describes it.

    Attributes:
        source: The file, the instance, and the frame of it.
        rows: Number of rows.
        columns: Number of columns.
        position: Where its first pixel lies; None where the file does not say.
        orientation: How it is turned; None where the file does not say.
        pixel_spacing: Distance in mm between rows, and between columns; None where the file does
            not say.
        slope: Rescale Slope (0028,1053), finite and not zero; 1 where the file has none.
        intercept: Rescale Intercept (0028,1052), finite; 0 where the file has none.
        rescale_type: Rescale Type (0028,1054): the unit of the rescaled values, such as ``HU``;
            None where the file does not say.
        thickness: Slice Thickness (0018,0050) in mm; None where the file does not say.
        image_type: Image Type (0008,0008), or Frame Type of a frame, value by value.
        dimensions: What may tell it from another slice in the same place: attribute keyword and
            value, in the order in which volumes are split by them.
    """

    source: SourceInstance
    rows: int
    columns: int
    position: Position | None = None
    orientation: Orientation | None = None
    pixel_spacing: tuple[float, float] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    # Text of files is not shown, even where a slice is: it may name the patient.
    rescale_type: str | None = field(default=None, repr=False)
    thickness: float | None = None
    image_type: tuple[str, ...] = field(default=(), repr=False)
    dimensions: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def where(self) -> str:
        """The file, and the frame where it holds several: for messages."""
        frame = self.source.frame
        return self.source.path if frame is None else f"{self.source.path} (frame {frame})"


@dataclass(frozen=True, kw_only=True, eq=False)
class DicomVolume:
    """One image, cine or stack of slices: what is segmented, and written, as one.

    Attributes:
        name: What its outputs are called: the Series Instance UID, with what the series was split
            by; of images without a position their SOP Instance UID.
        former_name: What earlier versions called its outputs; empty where it is the same. It may
            hold text of its files, so it is looked for and never told.
        slices: Its slices in stack order, or its frames in time.
        grid: Where they lie.
        states: Its files, sorted, and what the system said of each before its header was read.
        sop_class_uid: The SOP Class UID of its files.
        study_uid: Study Instance UID.
        series_uid: Series Instance UID.
        frame_of_reference_uid: Frame of Reference UID.
        dicom_modality: Modality (0008,0060).
        split: Attribute keyword, and number or rank of its value, of each attribute that tells it
            from the other volumes of its series.
        warnings: What a user should know about it, where its slices lie included.
        joined: What its files keep apart and the user joined, such as ``"series"``.
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
