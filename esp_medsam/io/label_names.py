"""Store names and colors of labels in a NIfTI header extension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from xml.etree import ElementTree


class Labeled(Protocol):
    """What a label value stands for: a target, or a segment that others described."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def color(self) -> tuple[int, int, int]:
        """RGB that it is shown in."""


def label_extension(shown: Sequence[tuple[int, Labeled]]) -> bytes:
    """Return names and colors of label values as the XML that viewers and others know.

    It is the label table of Connectome Workbench, which TotalSegmentator reads and writes too.

    Args:
        shown: Label value and what it stands for.
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
