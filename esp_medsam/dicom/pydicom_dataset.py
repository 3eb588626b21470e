"""Convert skimmed elements to a pydicom dataset, for decoding and lookup tables."""

from __future__ import annotations

from typing import Any

from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement, empty_value_for_VR
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from esp_medsam.dicom.skim import RawDataset


def as_pydicom(raw: RawDataset, most_items: int) -> Dataset:
    """Return a data set whose values pydicom converts on access.

    Args:
        raw: The skimmed data set.
        most_items: Most items to take from the start of each sequence: each takes kilobytes in
            pydicom.
    """
    elements: dict[BaseTag, DataElement | RawDataElement] = {}
    for number, (representation, value) in raw.elements.items():
        tag = BaseTag(number)
        if isinstance(value, tuple):
            items = [as_pydicom(item, most_items) for item in value[:most_items]]
            elements[tag] = DataElement(tag, "SQ", Sequence(items))
        elif value is not None:
            stated: Any = value or empty_value_for_VR(representation, raw=True)
            elements[tag] = RawDataElement(
                tag, representation, len(value), stated, 0, *raw.encoding
            )
    dataset = Dataset(elements)
    dataset.set_original_encoding(*raw.encoding)
    return dataset
