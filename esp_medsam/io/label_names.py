"""Store names and colors of labels in a NIfTI header extension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from xml.etree import ElementTree


class Labeled(Protocol):
    """What a label value stands for: a target, or a segment from another source."""

    @property
    def name(self) -> str:
        """Name that is shown."""

    @property
    def color(self) -> tuple[int, int, int]:
        """RGB color for display."""


def label_extension(shown: Sequence[tuple[int, Labeled]]) -> bytes:
    """Return names and colors of label values as XML that viewers and other programs know.

    The format is the label table of Connectome Workbench, which TotalSegmentator uses too.

    Args:
        shown: Label values and what each stands for.
    """
    root = ElementTree.Element("CaretExtension")
    volume = ElementTree.SubElement(root, "VolumeInformation", Index="0")
    table = ElementTree.SubElement(volume, "LabelTable")
    for label, target in shown:
        red, green, blue = (f"{channel / 255:.4f}" for channel in target.color)
        attributes = {"Key": str(label), "Red": red, "Green": green, "Blue": blue, "Alpha": "1"}
        ElementTree.SubElement(table, "Label", attributes).text = target.name
    ElementTree.SubElement(volume, "StudyMetaDataLinkSet")
    ElementTree.SubElement(volume, "VolumeType").text = "Label"
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text
