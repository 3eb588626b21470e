"""The app that MONAI Label's server loads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.tasks.activelearning.random import Random

from esp_medsam.errors import InputNotFoundError, ModalityError, one_of, quoted
from esp_medsam.integrations.dicomweb.access import read_access
from esp_medsam.integrations.dicomweb.client import Pacs
from esp_medsam.integrations.monai_label.batch_task import BatchTask
from esp_medsam.integrations.monai_label.dicom_studies import DicomStudies
from esp_medsam.integrations.monai_label.guard import is_name
from esp_medsam.integrations.monai_label.request import ORIGINAL, read_request
from esp_medsam.integrations.monai_label.segment_task import Made, SegmentTask
from esp_medsam.integrations.monai_label.segmenters import Segmenters
from esp_medsam.integrations.monai_label.settings import BUNDLE, TEMPORARY, LabelSettings
from esp_medsam.modality import ModalityTable
from esp_medsam.version import __version__
from esp_medsam.workflows.bundle import TABLE


class Upload(NamedTuple):
    """An image that came with a request; no text in a request can stand for one.

    Attributes:
        path: Its file in the app's temporary folder.
    """

    path: Path


class UnknownModelError(ModalityError):
    """A request names no model of the server.

    Models are called like the modality of the images; ``/info/`` lists them.
    """


class EspMedSamApp(MONAILabelApp):  # type: ignore[misc]  # MONAI Label has no types
    """Segmentation without prompts, one model for each modality.

    Args:
        app_dir: Folder that ``esp-medsam label`` prepared.
        studies: Folder of images, or the address of a DICOMweb server.
        conf: Settings that MONAI Label's command was given.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.folder = Path(app_dir)
        self.app_settings = LabelSettings.read(self.folder)
        self.temporary = self.folder / TEMPORARY
        bundle = self.folder / BUNDLE
        self.table = ModalityTable.read(bundle / TABLE)
        self.segmenters = Segmenters(bundle, self.app_settings.device)
        super().__init__(
            app_dir,
            studies,
            conf,
            name="esp_medsam",
            description="Segmentation of medical images of many modalities. For research only.",
            version=__version__,
        )

    def init_infers(self) -> dict[str, SegmentTask]:
        """Return a task for each modality."""
        return {
            name: SegmentTask(
                name,
                table=self.table,
                segmenters=self.segmenters,
                settings=self.app_settings,
                temporary=self.temporary,
            )
            for name in self.app_settings.modalities
        }

    def init_strategies(self) -> dict[str, Any]:
        """Return the ways to choose the next image."""
        return {"random": Random()}

    def init_batch_infer(self) -> BatchTask:
        """Return the task of many images."""
        return BatchTask()

    def init_datastore(self) -> Datastore:
        """Return the folder's or the server's images."""
        if self.studies.startswith(("http://", "https://")):
            return DicomStudies(
                Pacs(read_access(self.studies.rstrip("/"))),
                cache=self.folder / "cache",
                table=self.table,
                modalities=self.app_settings.modalities,
            )
        return super().init_datastore()

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> Any:
        """Segment one image, for a request over HTTP or one of a batch.

        Args:
            request: Parameters of the request: ``model``, ``image``, and see
                :func:`~.request.read_request`.
            datastore: Images; None for the app's.

        Returns:
            As MONAI Label's own: ``label``, ``tag``, ``file`` and ``params``.

        Raises:
            EspMedSamError: If the request or the image is refused.
        """
        store = self.datastore() if datastore is None else datastore
        model, image = request.get("model"), request.get("image")
        task = self._infers.get(model)
        if task is None:
            msg = f"model {one_of(self._infers)}, which are modalities of images; got "
            raise UnknownModelError(msg + f"{quoted(str(model))}.")
        if isinstance(image, Upload):
            made = task.segment(image.path, request)
            return _answer(made, str(made.file), ORIGINAL)
        asked = read_request(request, task.modality, self.table, self.segmenters.devices)
        made = task.segment(self._path_of(image, store), request)
        label = str(made.file)
        if asked.is_saved:
            told = {"model": model, "params": made.told}
            label = store.save_label(image, str(made.file), asked.tag, told)
        return _answer(made, label, asked.tag)

    def infer_wsi(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> Any:
        """Refuse whole-slide images, whose requests may name any file.

        Raises:
            UnknownModelError: Always.
        """
        del request, datastore
        msg = "Whole-slide images must be segmented with `esp-medsam segment`; no model here is of "
        raise UnknownModelError(msg + "them.")

    def next_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the next image to label, without the path that it has on the server."""
        sample: dict[str, Any] = super().next_sample(request)
        sample.pop("path", None)
        return sample

    def _path_of(self, image: object, store: Datastore) -> Path:
        """Return the path of an image that the studies hold.

        Raises:
            InputNotFoundError: If they hold no such image.
        """
        if not isinstance(image, str) or not is_name(image) or image not in store.list_images():
            msg = "image must be the id of an image of the studies; /datastore/?output=all lists "
            raise InputNotFoundError(msg + "them.")
        if isinstance(store, DicomStudies):
            return store.series_folder(image)
        return Path(store.get_image_uri(image))


def _answer(made: Made, label: str, tag: str) -> dict[str, Any]:
    answer = {"label": label, "tag": tag, "file": str(made.file), "params": made.told}
    return answer if made.dicom_seg is None else {**answer, "dicom_seg": str(made.dicom_seg)}
