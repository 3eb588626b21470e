"""The series of a DICOMweb server, as MONAI Label's server takes them."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydicom import dcmread

from esp_medsam.errors import InputNotFoundError
from esp_medsam.image import Image
from esp_medsam.integrations.dicomweb.client import Pacs
from esp_medsam.integrations.dicomweb.fetch import check_listed, fetch_series
from esp_medsam.integrations.dicomweb.query import Series, is_uid
from esp_medsam.integrations.monai_label.label_file import PICTURE
from esp_medsam.integrations.monai_label.labels import absent_of, masks_of, values_of
from esp_medsam.integrations.monai_label.request import FINAL
from esp_medsam.integrations.monai_label.sent_label import plain_label
from esp_medsam.integrations.monai_label.shared_store import SharedStore
from esp_medsam.integrations.monai_label.volume_file import write_volume
from esp_medsam.io.dicom_seg import SegOptions, write_dicom_seg
from esp_medsam.io.formats import split_suffix
from esp_medsam.io.modality import settle_modality
from esp_medsam.io.read import read
from esp_medsam.modality import ModalityTable


LIST_SECONDS = 60.0
"""Time after which the server is asked anew for its series."""


class DicomStudies(SharedStore):
    """Series of a DICOMweb server; those in use are kept in a folder.

    MONAI Label's own converts series with ITK, which takes uneven slices for even ones, keeps
    patients' names, shows series of CT alone, and writes what clients correct with a program that
    it downloads.

    Args:
        pacs: The server.
        cache: Folder for the series in use, and for labels.
        table: Available modalities and targets.
        modalities: Modalities whose series are shown.
    """

    def __init__(
        self, pacs: Pacs, *, cache: Path, table: ModalityTable, modalities: Sequence[str]
    ) -> None:
        place = cache / hashlib.sha256(pacs.url.encode()).hexdigest()[:16]
        super().__init__(str(place / "labels"), auto_reload=False)
        self.pacs = pacs
        self.table = table
        self.modality_of_code = {
            code: name for name in modalities for code in table[name].dicom_modalities
        }
        self._folder = place / "series"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._series: dict[str, Series] = {}
        self._listed = -LIST_SECONDS
        self._lock = threading.RLock()

    def name(self) -> str:
        """Return the server's address."""
        return self.pacs.url

    def _to_id(self, file: str) -> tuple[str, str]:
        """Return a file's UID and ending: what follows a UID's last dot is no ending."""
        return split_suffix(file)

    def list_images(self) -> list[str]:
        """Return the UIDs of the series of the modalities that are served.

        Raises:
            PacsError: If the server does not answer.
        """
        with self._lock:
            if time.monotonic() - self._listed > LIST_SECONDS:
                self._series = {series.series_uid: series for series in self._found()}
                self._listed = time.monotonic()
            return sorted(self._series)

    def get_labeled_images(
        self, label_tag: str | None = None, labels: Sequence[str] | None = None
    ) -> list[str]:
        """Return the UIDs of the series that have a final label."""
        labeled = set(super().get_labeled_images(label_tag, labels))
        return [uid for uid in self.list_images() if uid in labeled]

    def get_unlabeled_images(
        self, label_tag: str | None = None, labels: Sequence[str] | None = None
    ) -> list[str]:
        """Return the UIDs of the series that have no final label."""
        labeled = set(self.get_labeled_images(label_tag, labels))
        return [uid for uid in self.list_images() if uid not in labeled]

    def modality_of(self, image_id: str) -> str | None:
        """Return the modality of a series; None if it is not listed."""
        series = self._listed_series(image_id)
        return None if series is None else self.modality_of_code[series.dicom_modality]

    def study_of(self, image_id: str) -> str:
        """Return the UID of the study of a series; the series' own if it is not listed."""
        series = self._listed_series(image_id)
        return image_id if series is None else series.study_uid

    def _listed_series(self, image_id: str) -> Series | None:
        with self._lock:
            return self._series[image_id] if image_id in self.list_images() else None

    def series_folder(self, image_id: str) -> Path:
        """Return the folder with the files of a series.

        It is fetched if it is not there, and again if the server lists other instances by now: a
        series may have been on its way when it was fetched.

        Raises:
            InputNotFoundError: If the server has no such series.
            PacsError: If the server does not send it completely.
        """
        with self._lock:
            if not is_uid(image_id) or image_id not in self.list_images():
                msg = "image must be the UID of a series that the server lists."
                raise InputNotFoundError(msg)
            series, folder = self._series[image_id], self._folder / image_id
            listing = self._folder / f"{image_id}.txt"
            instances = self.pacs.find_instances(series)
            check_listed(series, instances)
            if listing.is_file() and listing.read_text(encoding="utf-8").split() == instances:
                return folder
            listing.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            self._datastore.objects.pop(image_id, None)
            with TemporaryDirectory(dir=self._folder, prefix=".") as new:
                fetched = Path(new, "series")
                fetched.mkdir()
                fetch_series(self.pacs, series, instances, fetched)
                fetched.rename(folder)
            listing.write_text("\n".join(instances), encoding="utf-8")  # last: now it is whole
            return folder

    def get_image_uri(self, image_id: str) -> str:
        """Return the path of a series as NIfTI, or of a picture as PNG, for clients to show."""
        folder = self.series_folder(image_id)
        with self._lock:
            if image_id not in self._datastore.objects:
                with TemporaryDirectory(dir=self._folder, prefix=".") as new:
                    self.add_image(image_id, str(write_volume(folder, Path(new), image_id)), {})
            return str(super().get_image_uri(image_id))

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """Keep a label; a final one is also stored on the server, as DICOM-SEG.

        Raises:
            EspMedSamError: If the label is not on the grid of its image, or names other targets.
            PacsError: If the server does not take it.
        """
        shown = Path(self.get_image_uri(image_id))
        with TemporaryDirectory() as new:
            label, info = plain_label(
                Path(label_filename),
                label_info,
                Path(new),
                shown,
                of_picture=shown.suffix == PICTURE,
            )
            if label_tag == FINAL:
                info["sop_instance_uid"] = self._store(image_id, label, info)
            return self.keep_label(image_id, label, label_tag, info)

    def _store(self, image_id: str, label: Path, info: Mapping[str, Any]) -> str:
        """Store a final label on the server, and return its SOP Instance UID; empty if it is."""
        modality = self.modality_of_code[self._series[image_id].dicom_modality]
        image: Image = settle_modality(
            read(self.series_folder(image_id)), modality, self.table, force=False
        )
        values = values_of(info, self.table[modality])
        absent_of(info, self.table[modality])
        masks = masks_of(label, image, values, self.table)
        targets = [target for target in self.table[modality].targets if target.name in masks]
        with TemporaryDirectory(dir=self._folder, prefix=".") as new:
            file = Path(new, "label.dcm")
            arrays = (masks[target.name].astype("uint8") for target in targets)
            settings = {"corrected_by": "client"}
            if not write_dicom_seg(file, image, arrays, targets, SegOptions(settings=settings)):
                return ""
            dataset = dcmread(file)
            self.pacs.store(dataset)
            return str(dataset.SOPInstanceUID)

    def _found(self) -> list[Series]:
        studies: dict[str, None] = {}
        for code in self.modality_of_code:
            found, _ = self.pacs.find_studies({"ModalitiesInStudy": code})
            studies.update(dict.fromkeys(found))
        series = (one for study in studies for one in self.pacs.find_series(study)[0])
        return [one for one in series if one.dicom_modality in self.modality_of_code]
