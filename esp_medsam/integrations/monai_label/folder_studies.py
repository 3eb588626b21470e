"""The images of a folder, as MONAI Label's server takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from monailabel.config import settings as server_settings

from esp_medsam.errors import InputNotFoundError, ModalityError, one_of
from esp_medsam.integrations.monai_label.final_labels import modality_of_image
from esp_medsam.integrations.monai_label.labels import absent_of, masks_of, unnamed, values_of
from esp_medsam.integrations.monai_label.request import FINAL
from esp_medsam.integrations.monai_label.sent_label import plain_label
from esp_medsam.integrations.monai_label.shared_store import SharedStore
from esp_medsam.io.formats import RASTER_SUFFIXES
from esp_medsam.io.modality import settle_modality
from esp_medsam.io.read import read
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.datalist import Mask
from esp_medsam.workflows.datalist_images import MaskReader


class FolderStudies(SharedStore):
    """Images of a folder; labels lie beside them, in ``labels``.

    Unlike MONAI Label's own, this refuses labels that could not be used.

    Args:
        folder: The folder.
        table: Available modalities and targets.
        modalities: Modalities that the server offers.
    """

    def __init__(self, folder: str, table: ModalityTable, modalities: Sequence[str]) -> None:
        super().__init__(
            folder,
            extensions=server_settings.MONAI_LABEL_DATASTORE_FILE_EXT,
            auto_reload=server_settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
        )
        self.table = table
        self.modalities = modalities

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """Keep a label; a final one only if it is one of its image.

        Raises:
            InputNotFoundError: If there is no such image.
            EspMedSamError: If the label is not on the grid of its image, or names other targets.
        """
        path = self.get_image_uri(image_id)
        if not path:
            msg = "image must be the id of an image of the studies."
            raise InputNotFoundError(msg)
        with TemporaryDirectory() as new:
            is_picture = path.lower().endswith(RASTER_SUFFIXES)
            label, info = plain_label(
                Path(label_filename), label_info, Path(new), Path(path), of_picture=is_picture
            )
            if label_tag == FINAL:
                self._check(image_id, Path(path), label, info)
            return self.keep_label(image_id, label, label_tag, info)

    def _check(self, image_id: str, path: Path, label: Path, info: Mapping[str, Any]) -> None:
        said = info.get("model")
        if said is not None and said not in self.modalities:
            msg = f"model {one_of(self.modalities)}."
            raise ModalityError(msg)
        modality = said or modality_of_image(self, image_id, self.modalities)
        with unnamed(path):
            image = read(path)
            if modality is None:  # what its values mean is only known once its modality is
                MaskReader(image, self.table).stored(Mask(path=str(label), values=(1,)))
                return
            image = settle_modality(image, modality, self.table, force=False)
        absent_of(info, self.table[modality])
        masks_of(label, image, values_of(info, self.table[modality]), self.table)
