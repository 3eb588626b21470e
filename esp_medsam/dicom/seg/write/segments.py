"""Describe the segments of our own segmentation objects, and the algorithm."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from highdicom.color import CIELabColor
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.seg import SegmentDescription
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes

from esp_medsam.errors import TableError
from esp_medsam.modality import Code, Target


ALGORITHM = "esp-medsam"
"""What segments call the algorithm that made them."""

_LONGEST_LABEL = 64
"""Characters of a Long String, such as Segment Label and Series Description."""

_LONGEST_TEXT = 10240
"""Characters of a Long Text, such as Algorithm Parameters."""


def describe_segment(
    number: int, target: Target, algorithm: AlgorithmIdentificationSequence
) -> Dataset:
    """Return the description of one segment, coded as the table of targets says.

    Args:
        number: Its number, from 1.
        target: What it shows.
        algorithm: As :func:`describe_algorithm` returns it.
    """
    region = target.anatomic_region
    return SegmentDescription(
        segment_number=number,
        segment_label=target.words[:_LONGEST_LABEL],
        segmented_property_category=_concept(target.category),
        segmented_property_type=_concept(target.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        anatomic_regions=None if region is None else [_concept(region)],
        display_color=CIELabColor.from_rgb(*target.color),
    )


def series_description(found: Sequence[Target]) -> str:
    """Return what a list of series shows: the targets that were found, as many as there is room.

    Args:
        found: Those that have a segment with foreground, in its order.

    Returns:
        Such as ``Segmentation: liver, kidney tumor +3``, at most 64 characters.
    """
    if not found:
        return "Segmentation: nothing found"
    words = [target.words.lower() for target in found]
    for shown in range(len(words), 0, -1):
        more = f" +{len(words) - shown}" if shown < len(words) else ""
        text = f"Segmentation: {', '.join(words[:shown])}"
        if len(text + more) <= _LONGEST_LABEL:
            return text + more
    return text[: _LONGEST_LABEL - len(more)] + more


def describe_background() -> Dataset:
    """Return the description of value 0 of a labelmap, which is a segment there."""
    item = Dataset()
    item.SegmentNumber = 0
    item.SegmentLabel = "Background"
    concept = CodedConcept.from_code(codes.DCM.Background)
    item.SegmentedPropertyCategoryCodeSequence = [concept]
    item.SegmentedPropertyTypeCodeSequence = [concept]
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = ALGORITHM
    item.RecommendedDisplayCIELabValue = list(CIELabColor(0.0, 0.0, 0.0).value)
    return item


def describe_algorithm(made_with: Mapping[str, Any]) -> AlgorithmIdentificationSequence:
    """Return what made the segments: name, version, hash of the weights, and settings.

    Args:
        made_with: ``version`` of the software; ``weights_sha256``, None where they have no file;
            ``settings``, left out where they are too long for the attribute: the record beside the
            result holds them.
    """
    weights = made_with["weights_sha256"]
    parameters = {} if weights is None else {"weights_sha256": weights}
    settings = {key: as_json(value) for key, value in made_with["settings"].items()}
    if sum(len(key) + len(value) + 2 for key, value in settings.items()) < _LONGEST_TEXT - 100:
        parameters |= settings
    return AlgorithmIdentificationSequence(
        name=ALGORITHM,
        family=codes.cid7162.ArtificialIntelligence,
        version=made_with["version"],
        parameters=parameters or None,
    )


def as_json(value: Any) -> str:
    """Return a value as text that is the same whenever the value is, ASCII alone."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def _concept(code: Code) -> CodedConcept:
    """Return a code as DICOM has it, in the characters that every character set holds."""
    if not code.meaning.isascii():
        msg = (
            f"meaning of code {code.value} must be ASCII in a DICOM segmentation; got "
            f"{code.meaning!r}."
        )
        raise TableError(msg)
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)
