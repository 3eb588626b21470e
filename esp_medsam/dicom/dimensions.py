"""Attributes that distinguish images at the same position: phase, echo, b-value, kernel."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from esp_medsam.dicom.elements import Elements
from esp_medsam.errors import FormatError


_SIEMENS = ((0x00190010, "SIEMENS MR HEADER"), 0x0019100C, 0x0019100E)
"""Private creator, b-value and gradient direction of Siemens MR."""

_PHILIPS = ((0x20010010, "Philips Imaging DD 001"), 0x20011003)
"""Private creator and b-value of Philips MR."""

_GE = ((0x00430010, "GEMS_PARM_01"), 0x00431039)
"""Private creator and b-value of GE MR; the b-value is the first of the element's values."""

ATTRIBUTES = (
    "StackID",
    "AcquisitionNumber",
    "FrameAcquisitionNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "NominalPercentageOfCardiacPhase",
    "TemporalPositionTimeOffset",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "InversionTime",
    "InversionTimes",
    "FlipAngle",
    "ConvolutionKernel",
    "ImageType",
    "FrameType",
    "ComplexImageComponent",
    "AcquisitionTime",
    "FrameAcquisitionDateTime",
    "ContentTime",
    "KVP",
    "RepetitionTime",
    "SequenceName",
    "FilterType",
    "ReconstructionDiameter",
    "SliceThickness",
    "ContrastBolusAgent",
)
"""Attributes that tell slices at one position, or interleaved slices, apart, in this order.

Image types come before times of day: the magnitude and phase images of one slice are computed at
different times, and a split by time could mix the two.
"""

_GE_FLAG = 100_000
"""GE adds a multiple of this flag to the b-values of some series: 1000000800 means 800."""

_LONGEST_B_VALUE = 12
"""Most digits of an Integer String."""


@dataclass(frozen=True)
class Groups:
    """Functional groups of one frame: its own macros, then the macros that all frames share."""

    own: Elements
    shared: Elements | None

    def macro(self, attribute: str) -> Elements | None:
        """Return the item of a macro; None if neither the frame nor the shared groups have it."""
        found = self.own.item(attribute)
        return found if found or not self.shared else self.shared.item(attribute)


def frame_dimensions(
    groups: Groups, pointers: list[str], of_all: dict[str, str]
) -> tuple[tuple[str, str], ...]:
    """Return the dimensions that may tell a frame from others: the file's, and the frame's own.

    A dimension index is used only if the attribute it points to is not stated: it numbers the
    values of a single file, so two files may give the same number to different values.
    """
    stated = {**of_all, **dict(_own_dimensions(groups))}
    for keyword, index in _own_indices(groups, pointers):
        stated.setdefault(keyword, index)
    return tuple(stated.items())


def single_dimensions(elements: Elements) -> Iterator[tuple[str, str]]:
    """Yield the stated attributes that may tell an image from another at the same position."""
    for keyword in (*ATTRIBUTES, "InstanceNumber"):
        if keyword not in ("DiffusionBValue", "DiffusionGradientOrientation", "ImageType"):
            yield from _stated_values(elements, keyword)
    yield from _diffusion(elements)
    yield from _kind("ImageType", elements.texts("ImageType"))


def _own_dimensions(groups: Groups) -> Iterator[tuple[str, str]]:
    """Yield the stated attributes that may tell a frame from another at the same position."""
    for sequence, keywords in _MACROS.items():
        macro = groups.macro(sequence)
        for keyword in keywords if macro else ():
            yield from _stated_values(macro, keyword)
    for sequence in ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence"):
        macro = groups.macro(sequence)
        yield from _kind("FrameType", macro.texts("FrameType") if macro else ())
    diffusion = groups.macro("MRDiffusionSequence")
    direction = diffusion.item("DiffusionGradientDirectionSequence") if diffusion else None
    yield from _vector(direction, "DiffusionGradientOrientation")
    yield from _stated_values(groups.macro("FrameContentSequence"), "FrameAcquisitionDateTime")


def _own_indices(groups: Groups, pointers: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the index of a frame along each dimension except its position."""
    content = groups.macro("FrameContentSequence")
    indices = content.integers("DimensionIndexValues") if content else ()
    for keyword, index in zip(pointers, indices, strict=False):
        if keyword and keyword not in ("ImagePositionPatient", "InStackPositionNumber", "StackID"):
            yield keyword, str(index)


_MACROS = {
    "FrameContentSequence": ("StackID", "FrameAcquisitionNumber", "TemporalPositionIndex"),
    "CardiacSynchronizationSequence": (
        "NominalCardiacTriggerDelayTime",
        "NominalPercentageOfCardiacPhase",
    ),
    "TemporalPositionSequence": ("TemporalPositionTimeOffset",),
    "MRDiffusionSequence": ("DiffusionBValue",),
    "MREchoSequence": ("EffectiveEchoTime",),
    "MRModifierSequence": ("InversionTimes",),
    "MRTimingAndRelatedParametersSequence": ("RepetitionTime", "FlipAngle"),
    "MRImageFrameTypeSequence": ("ComplexImageComponent",),
    "CTReconstructionSequence": ("ConvolutionKernel", "ReconstructionDiameter"),
    "CTXRayDetailsSequence": ("KVP",),
    "PixelMeasuresSequence": ("SliceThickness",),
}
"""Functional groups, with the attributes in them that may tell frames apart."""


def _stated_values(elements: Elements | None, keyword: str) -> Iterator[tuple[str, str]]:
    """Yield an attribute if it is stated, with numbers in a uniform format."""
    text = _value_text(elements, keyword) if elements else ""
    if text:
        yield keyword, sys.intern(text)  # most slices of a folder state the same


def _value_text(elements: Elements, keyword: str) -> str:
    """Return a value in a uniform format; empty if it carries no information."""
    if not elements.has(keyword):
        return ""
    if not keyword.endswith(("Time", "ID", "DateTime")) or keyword in _NUMBERS:
        # Several values, such as echo numbers, are not one number, but still tell slices apart.
        with suppress(FormatError):
            value = elements.number(keyword)
            return "" if value is None else f"{value:.9g}"
    with suppress(FormatError):  # longer than any informative value
        return elements.text(keyword)
    return ""


_NUMBERS = (
    "TriggerTime",
    "EchoTime",
    "EffectiveEchoTime",
    "InversionTime",
    "NominalCardiacTriggerDelayTime",
    "RepetitionTime",
)


def _vector(elements: Elements | None, attribute: str | int) -> Iterator[tuple[str, str]]:
    values = None
    with suppress(FormatError):  # an invalid direction is no reason to refuse an image
        values = elements.numbers(attribute, 3) if elements else None
    if values is not None:
        yield "DiffusionGradientOrientation", "\\".join(f"{value + 0:.4g}" for value in values)


def _kind(keyword: str, values: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield what an image type says beyond original and primary: phase, magnitude, Dixon."""
    if values[2:]:
        yield keyword, "\\".join(values[2:])


def _diffusion(elements: Elements) -> Iterator[tuple[str, str]]:
    """Yield b-value and gradient direction: the standard ones, else Siemens', Philips' or GE's."""
    creator, b_value, direction = _SIEMENS
    philips_creator, philips_b_value = _PHILIPS
    ge_creator, ge_b_value = _GE
    if elements.has("DiffusionBValue"):
        yield from _stated_values(elements, "DiffusionBValue")
        yield from _vector(elements, "DiffusionGradientOrientation")
    elif elements.text(creator[0]) == creator[1] and elements.has(b_value):
        with suppress(FormatError):
            yield "DiffusionBValue", elements.text(b_value)
        yield from _vector(elements, direction)
    elif elements.text(philips_creator[0]) == philips_creator[1] and elements.has(philips_b_value):
        for number in elements.numbers(philips_b_value, 1) or ():
            yield "DiffusionBValue", f"{number:.9g}"
    elif elements.text(ge_creator[0]) == ge_creator[1] and elements.has(ge_b_value):
        for value in elements.texts(ge_b_value)[:1]:
            if value.isascii() and value.isdigit() and len(value) <= _LONGEST_B_VALUE:
                yield "DiffusionBValue", str(int(value) % _GE_FLAG)
