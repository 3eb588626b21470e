"""Build the header of a segmentation object: everything but its frames."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SegmentationStorage

from esp_medsam.dicom.seg import LABELMAP_STORAGE
from esp_medsam.dicom.seg.write.frames import reference_to
from esp_medsam.dicom.seg.write.identity import SegIdentity
from esp_medsam.dicom.seg.write.segments import ALGORITHM
from esp_medsam.dicom.seg.write.source import SourceHeader
from esp_medsam.image import Image, SourceInstance


_IMPLEMENTATION_UID = UID("2.25.75457004891770183523061232424736057220")
"""Identifies this software, as PS3.7 D.3.3.2 requires; derived from a UUID of its own."""


def identified_dataset(
    image: Image, header: SourceHeader, identity: SegIdentity, kind: str, version: str
) -> Dataset:
    """Return the object without segments, frames and pixels.

    Args:
        image: Record of the source.
        header: Other attributes from the source files.
        identity: UIDs and times of the object.
        kind: One of :data:`esp_medsam.dicom.SEG_KINDS`.
        version: Version of the software.
    """
    dataset = Dataset()
    dataset.update(header.attributes)
    dataset.LossyImageCompression = dataset.get("LossyImageCompression") or "00"
    dataset.SOPClassUID = LABELMAP_STORAGE if kind == "labelmap" else SegmentationStorage
    dataset.SOPInstanceUID = identity.instance_uid
    dataset.StudyInstanceUID = image.study_uid
    dataset.SeriesInstanceUID = identity.series_uid
    dataset.SeriesNumber = 1000 + header.series_number
    dataset.InstanceNumber = 1
    dataset.Modality = "SEG"
    dataset.Manufacturer = ALGORITHM
    dataset.ManufacturerModelName = ALGORITHM
    dataset.SoftwareVersions = version
    dataset.ContentDate = identity.date
    dataset.ContentTime = identity.time
    dataset.ContentLabel = "SEGMENTATION"
    dataset.ContentDescription = f"{image.modality} segmentation"[:64]
    dataset.ContentCreatorName = None
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    if header.frame_of_reference_uid is not None:
        dataset.FrameOfReferenceUID = header.frame_of_reference_uid
        dataset.PositionReferenceIndicator = ""  # free text, which may be empty
    dataset.ReferencedSeriesSequence = _referenced_series(image)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = _IMPLEMENTATION_UID
    # Also the mark that identifies files written by this package.
    dataset.file_meta.ImplementationVersionName = f"{ALGORITHM} {version}"[:16]
    return dataset


def _referenced_series(image: Image) -> list[Dataset]:
    """Return one reference to each instance of the source, grouped by series."""
    series: dict[str | None, dict[str, SourceInstance]] = {}
    for source in image.sources:
        own = series.setdefault(source.series_uid or image.series_uid, {})
        own[source.sop_instance_uid] = source
    items = []
    for series_uid, instances in series.items():
        item = Dataset()
        item.SeriesInstanceUID = series_uid
        item.ReferencedInstanceSequence = [reference_to(source) for source in instances.values()]
        items.append(item)
    return items
