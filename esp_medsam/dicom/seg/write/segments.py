"""Describe the segments and the algorithm of the segmentation objects that this package writes."""

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
"""Name of the algorithm that made the segments."""

_LONGEST_LABEL = 64
"""Most characters of a Long String, such as Segment Label and Series Description."""

_LONGEST_TEXT = 10240
"""Most characters of a Long Text, such as Algorithm Parameters."""


def describe_segment(
    number: int, target: Target, algorithm: AlgorithmIdentificationSequence
) -> Dataset:
    """Return the description of one segment, with codes from the table of targets.

    Args:
        number: Segment number, from 1.
        target: Target that the segment shows.
        algorithm: Description from :func:`describe_algorithm`.
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
    """Return the Series Description: the targets found, as many as there is room for.

    Args:
        found: Targets that have a segment with foreground, in segment order.

    Returns:
        Text such as ``Segmentation: liver, kidney tumor +3``, at most 64 characters.
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
    """Return the description of value 0 of a labelmap, which counts as a segment."""
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
    """Return the algorithm description: name, version, hash of the weights, and settings.

    Args:
        made_with: ``version`` of the software; ``weights_sha256``, None if the weights have no
            file; ``settings``, left out if they are too long for the attribute, as the record
            beside the result holds them.
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
    """Return a value as ASCII JSON text; equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def _concept(code: Code) -> CodedConcept:
    """Return a DICOM code, limited to ASCII, which every character set includes."""
    if not code.meaning.isascii():
        msg = (
            f"meaning of code {code.value} must be ASCII in a DICOM segmentation; got "
            f"{code.meaning!r}."
        )
        raise TableError(msg)
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)
