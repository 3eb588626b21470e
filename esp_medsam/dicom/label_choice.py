"""Select segments or regions of a DICOM file by number, name or code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pydicom.sr.coding import Code as DicomCode

from esp_medsam.errors import OptionError, listed, quoted
from esp_medsam.modality import Code, Target


class Labeled(Protocol):
    """A segment or region, with the attributes that say what it is."""

    @property
    def number(self) -> int:
        """Number in the file."""

    @property
    def label(self) -> str:
        """Name in the file."""

    @property
    def type(self) -> Code | None:
        """Code of the structure that it shows; None if the file does not state it."""

    @property
    def modifiers(self) -> tuple[Code, ...]:
        """Codes that modify the type, such as the side."""

    @property
    def anatomic_regions(self) -> tuple[Code, ...]:
        """Codes of the anatomic regions in which it lies."""


def chosen_numbers(
    path: str,
    held: Sequence[Labeled],
    *,
    values: Sequence[int] | None,
    names: Sequence[str] | None,
    target: Target | None,
) -> tuple[int, ...]:
    """Return the numbers of the chosen segments or regions, each of which occurs exactly once.

    Args:
        path: The file.
        held: Segments or regions in the file.
        values: Numbers to choose.
        names: Exact names to choose if no numbers are given.
        target: Target whose codes choose if neither is given; None for no target.

    Raises:
        OptionError: If a choice is missing or ambiguous; the message lists what the file holds.
    """
    there = listed([f"{one.number} ({one.label})" for one in held]) or "nothing"
    if values is not None:
        wrong = [str(value) for value in values if value not in {one.number for one in held}]
        if wrong:
            msg = f"values must be among those of {path}, {there}; got {listed(wrong)}."
            raise OptionError(msg)
        return tuple(values)
    if names is not None:
        return tuple(_number_of_name(name, path, held, there) for name in names)
    if target is None:
        msg = f"unknown must choose values or names; {path} holds {there}."
        raise OptionError(msg)
    coded = [one.number for one in held if is_coded(one, target)]
    if len(coded) != 1:
        found = "none" if not coded else listed([str(number) for number in coded])
        msg = (
            f"labels must choose {target.name} by values or names, unless exactly one segment "
            f"has its codes ({target.type.value}, {target.type.scheme}); {path} holds {there}, "
            f"of which {found} {'has' if len(coded) < 2 else 'have'} them."
        )
        raise OptionError(msg)
    return tuple(coded)


def is_coded(one: Labeled, target: Target) -> bool:
    """Whether a segment or region has the type and region of a target, without narrower codes.

    A left kidney is only part of a target that means both kidneys. Categories are not compared,
    because several are in use for the same structure.
    """
    regions = [] if target.anatomic_region is None else [target.anatomic_region]
    if one.type is None or one.modifiers or len(one.anatomic_regions) != len(regions):
        return False
    pairs = zip((one.type, *one.anatomic_regions), (target.type, *regions), strict=True)
    return all(_dicom(theirs) == _dicom(ours) for theirs, ours in pairs)


def _number_of_name(name: str, path: str, held: Sequence[Labeled], there: str) -> int:
    numbers = [one.number for one in held if one.label == name]
    if len(numbers) != 1:
        having = listed([str(number) for number in numbers]) or "none"
        msg = (
            f"names must each match exactly one in {path}, {there}; {quoted(name)} matches "
            f"{having}."
        )
        raise OptionError(msg)
    return numbers[0]


def _dicom(code: Code) -> DicomCode:
    """Return a code as pydicom's class, which treats SNOMED's old and new codes as equal."""
    return DicomCode(code.value, code.scheme, code.meaning)
