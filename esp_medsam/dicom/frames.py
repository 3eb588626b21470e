"""Describe the frames in one file: a single image, or the frames of a multi-frame object."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import cast

from esp_medsam.dicom.dimensions import Groups, frame_dimensions, single_dimensions
from esp_medsam.dicom.elements import Elements, standard_name, tags_of
from esp_medsam.dicom.volume import DicomSlice, Orientation, Position
from esp_medsam.errors import FormatError, GeometryError
from esp_medsam.image import SourceInstance


_STACKS = (
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
    "1.2.840.10008.5.1.4.1.1.4",  # MR
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.4.3",
    "1.2.840.10008.5.1.4.1.1.4.4",
    "1.2.840.10008.5.1.4.1.1.128",  # PET
    "1.2.840.10008.5.1.4.1.1.128.1",
    "1.2.840.10008.5.1.4.1.1.130",
)
"""SOP classes whose images must state a position: single-frame, enhanced, legacy converted."""

_PRIVATE = (
    0x00190010, 0x0019100C, 0x0019100E, 0x00430010, 0x00431039, 0x20010010, 0x20011003,
)  # fmt: skip

SLICE_ATTRIBUTES = tags_of(
    "ImageType", "AcquisitionTime", "ContentTime", "SliceThickness", "EchoTime", "EchoNumbers",
    "ImagerPixelSpacing", "TriggerTime", "NominalPercentageOfCardiacPhase", "InversionTime",
    "FlipAngle", "ConvolutionKernel", "InstanceNumber", "SequenceOfUltrasoundRegions",
    "DiffusionBValue", "DiffusionGradientOrientation", "AcquisitionNumber",
    "ImagePositionPatient", "ImageOrientationPatient", "TemporalPositionIdentifier",
    "DimensionIndexSequence", "Rows", "Columns", "PixelSpacing", "RescaleIntercept",
    "RescaleSlope", "RescaleType", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "KVP", "RepetitionTime", "SequenceName", "FilterType",
    "ReconstructionDiameter", "ContrastBolusAgent",
    # In the items of these sequences
    "RegionSpatialFormat", "PhysicalUnitsXDirection", "PhysicalUnitsYDirection", "PhysicalDeltaX",
    "PhysicalDeltaY", "DimensionIndexPointer", "FrameContentSequence", "StackID",
    "FrameAcquisitionNumber", "FrameAcquisitionDateTime", "TemporalPositionIndex",
    "DimensionIndexValues", "PlanePositionSequence", "PlaneOrientationSequence",
    "PixelMeasuresSequence", "PixelValueTransformationSequence", "CardiacSynchronizationSequence",
    "NominalCardiacTriggerDelayTime", "TemporalPositionSequence", "TemporalPositionTimeOffset",
    "MRDiffusionSequence", "DiffusionGradientDirectionSequence", "MREchoSequence",
    "EffectiveEchoTime", "MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "FrameType",
    "ComplexImageComponent", "MRModifierSequence", "InversionTimes",
    "MRTimingAndRelatedParametersSequence", "CTReconstructionSequence", "CTXRayDetailsSequence",
) | frozenset(_PRIVATE)  # fmt: skip
"""Attributes that are read from a header to describe its slices."""

FRAME_GROUPS = "PerFrameFunctionalGroupsSequence"
SHARED_GROUPS = "SharedFunctionalGroupsSequence"


def is_stack(elements: Elements, sop_class_uid: str) -> bool:
    """Whether a file's images are slices with a position, rather than pictures.

    The SOP class decides. For other multi-frame files and for private classes, a stated position
    and orientation decide.
    """
    if sop_class_uid in _STACKS:
        return True
    own = elements.item(FRAME_GROUPS)
    if own is not None:
        groups = Groups(own, elements.item(SHARED_GROUPS))
        stated = groups.macro("PlanePositionSequence"), groups.macro("PlaneOrientationSequence")
        return None not in stated
    known = standard_name(sop_class_uid) != sop_class_uid
    positioned = elements.has("ImagePositionPatient") and elements.has("ImageOrientationPatient")
    return positioned and not known


def slices_of(
    elements: Elements, source: SourceInstance, frames: int, *, positioned: bool
) -> tuple[DicomSlice, ...]:
    """Return the slices of a file.

    Args:
        elements: Header of the file.
        source: The file and its instance.
        frames: Number of images in the file, which was checked to hold that many.
        positioned: Whether to read the positions of the slices.

    Raises:
        FormatError: If an attribute is malformed, or the header describes frames that are missing.
        GeometryError: If a position, an orientation or a spacing is malformed.
    """
    rows, columns = elements.integer("Rows", least=1), elements.integer("Columns", least=1)
    if rows is None or columns is None:
        raise elements.missing("Rows" if rows is None else "Columns")
    if "MOSAIC" in elements.texts("ImageType") and positioned:
        msg = (
            f"{source.path} must be one slice; it is a mosaic of slices (ImageType MOSAIC). "
            "Convert it to enhanced MR or NIfTI first."
        )
        raise FormatError(msg)
    if frames == 1 and not elements.has(FRAME_GROUPS):
        return (_single(elements, source, rows, columns, positioned=positioned),)
    return tuple(_frames(elements, source, (rows, columns), frames, positioned=positioned))


def _single(
    elements: Elements, source: SourceInstance, rows: int, columns: int, *, positioned: bool
) -> DicomSlice:
    slope, intercept = _rescale(elements) if _is_gray(elements) else (1.0, 0.0)
    return DicomSlice(
        source=source,
        rows=rows,
        columns=columns,
        position=_position(elements) if positioned else None,
        orientation=_orientation(elements) if positioned else None,
        pixel_spacing=_spacing(elements) if positioned else _picture_spacing(elements),
        slope=slope,
        intercept=intercept,
        rescale_type=elements.text("RescaleType") or None,
        thickness=_thickness(elements),
        image_type=_image_type(elements),
        dimensions=tuple(single_dimensions(elements)) if positioned else (),
    )


def _frames(
    elements: Elements,
    source: SourceInstance,
    shape: tuple[int, int],
    frames: int,
    *,
    positioned: bool,
) -> Iterator[DicomSlice]:
    """Return the slices of a multi-frame file, in the order of its frames."""
    shared = elements.item(SHARED_GROUPS)
    own = elements.items(FRAME_GROUPS)
    if own and len(own) != frames:
        got = f"{len(own)} items for {frames} frames"
        raise elements.error(FRAME_GROUPS, "describe each frame", got)
    pointers = [
        item.tag("DimensionIndexPointer") for item in elements.items("DimensionIndexSequence")
    ]
    spacing = None if positioned else _picture_spacing(elements)
    is_gray = _is_gray(elements)
    of_all = dict(single_dimensions(elements)) if positioned else {}
    for k in range(frames):
        groups = Groups(own[k], shared) if own else Groups(shared or elements, None)
        measures = groups.macro("PixelMeasuresSequence")
        plane = groups.macro("PlanePositionSequence") if positioned else None
        turned = groups.macro("PlaneOrientationSequence") if positioned else None
        values = groups.macro("PixelValueTransformationSequence") or elements
        slope, intercept = _rescale(values) if is_gray else (1.0, 0.0)
        yield DicomSlice(
            source=source if frames == 1 else _of_frame(source, k + 1),
            rows=shape[0],
            columns=shape[1],
            position=_position(plane) if plane else None,
            orientation=_orientation(turned) if turned else None,
            pixel_spacing=(_spacing(measures) if measures else None) or spacing,
            slope=slope,
            intercept=intercept,
            rescale_type=values.text("RescaleType") or None,
            thickness=_thickness(measures) if measures else None,
            image_type=_image_type(elements),
            dimensions=frame_dimensions(groups, pointers, of_all) if positioned else (),
        )


def _image_type(elements: Elements) -> tuple[str, ...]:
    # Every slice of a folder has the same few words, and all slices are held at once.
    return tuple(map(sys.intern, elements.texts("ImageType")))


def _of_frame(source: SourceInstance, frame: int) -> SourceInstance:
    return SourceInstance(
        path=source.path,
        sop_class_uid=source.sop_class_uid,
        sop_instance_uid=source.sop_instance_uid,
        frame=frame,
    )


def _position(elements: Elements) -> Position | None:
    return cast(Position | None, elements.numbers("ImagePositionPatient", 3, GeometryError))


def _orientation(elements: Elements) -> Orientation | None:
    return cast(Orientation | None, elements.numbers("ImageOrientationPatient", 6, GeometryError))


def _spacing(elements: Elements, attribute: str = "PixelSpacing") -> tuple[float, float] | None:
    values = elements.numbers(attribute, 2, GeometryError)
    if values is not None and min(values) <= 0:
        got = "\\".join(f"{value:g}" for value in values)
        raise elements.error(attribute, "be two positive numbers", got, GeometryError)
    return cast(tuple[float, float] | None, values)


def _picture_spacing(elements: Elements) -> tuple[float, float] | None:
    """Return the pixel spacing of a picture without position, calibrated or at the detector."""
    stated = _spacing(elements) or _spacing(elements, "ImagerPixelSpacing")
    return stated or _ultrasound_spacing(elements)


def _ultrasound_spacing(elements: Elements) -> tuple[float, float] | None:
    """Return the spacing of the 2-D regions calibrated in cm, if all of them share one."""
    spacings = set()
    for region in elements.items("SequenceOfUltrasoundRegions"):
        if region.integer("RegionSpatialFormat") != 1:
            continue
        units = region.integer("PhysicalUnitsXDirection"), region.integer("PhysicalUnitsYDirection")
        across, down = region.number("PhysicalDeltaX"), region.number("PhysicalDeltaY")
        if units != (3, 3) or not across or not down:
            return None
        spacings.add((abs(down) * 10, abs(across) * 10))
    return spacings.pop() if len(spacings) == 1 else None


def _is_gray(elements: Elements) -> bool:
    """Whether values are gray and so rescaled; colors are not, whatever their file says."""
    return elements.text("PhotometricInterpretation").startswith("MONOCHROME")


def _rescale(elements: Elements) -> tuple[float, float]:
    slope, intercept = elements.number("RescaleSlope"), elements.number("RescaleIntercept")
    if slope == 0:
        error = elements.error("RescaleSlope", "differ from 0", "0")
        raise error
    return (1.0 if slope is None else slope), (intercept or 0.0)


def _thickness(elements: Elements) -> float | None:
    """Return the thickness if it is usable; it serves only as the depth of a lone slice."""
    try:
        value = elements.number("SliceThickness")
    except FormatError:
        return None
    return value if value is not None and 0 < value < 1e4 else None
