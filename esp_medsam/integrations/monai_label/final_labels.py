"""Labels that users approved, and the images that they have not labeled yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monailabel.interfaces.datastore import Datastore

from esp_medsam.integrations.monai_label.dicom_studies import DicomStudies
from esp_medsam.integrations.monai_label.labels import FinalLabel
from esp_medsam.integrations.monai_label.request import FINAL


def modality_of_image(store: Datastore, image_id: str, served: Sequence[str]) -> str | None:
    """Return the modality of an image if DICOM or a user said it, else None.

    A user says it by starting the server for one modality, by asking its model for a label that is
    saved, or by sending ``model`` with a label.
    """
    if isinstance(store, DicomStudies):
        return store.modality_of(image_id)
    if len(served) == 1:
        return served[0]
    tags = store.get_labels_by_image_id(image_id)
    said = [store.get_label_info(image_id, tag).get("model") for tag in sorted(tags)]
    return next((model for model in said if model in served), None)


def labeled_images(store: Datastore, modality: str, served: Sequence[str]) -> list[str]:
    """Return the ids of the images of a modality that have a final label, sorted."""
    images = store.get_labeled_images()
    return sorted(one for one in images if modality_of_image(store, one, served) == modality)


def unlabeled_images(store: Datastore, modality: str, served: Sequence[str]) -> list[str]:
    """Return the ids of the images of a modality that have no final label, sorted."""
    images = store.get_unlabeled_images()
    return sorted(one for one in images if modality_of_image(store, one, served) == modality)


def image_path(store: Datastore, image_id: str) -> Path:
    """Return the path of an image: a file, or the folder of a DICOM series.

    Raises:
        PacsError: If the server does not send the series.
    """
    if isinstance(store, DicomStudies):
        return store.series_folder(image_id)
    return Path(store.get_image_uri(image_id))


def final_label(store: Datastore, image_id: str) -> FinalLabel:
    """Return the final label of an image.

    Raises:
        PacsError: If the server does not send the series.
    """
    is_dicom = isinstance(store, DicomStudies)
    return FinalLabel(
        image=image_path(store, image_id),
        label=Path(store.get_label_uri(image_id, FINAL)),
        info=store.get_label_info(image_id, FINAL),
        patient=store.study_of(image_id) if is_dicom else image_id,
    )
