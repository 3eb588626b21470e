"""The app that MONAI Label's server loads."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.tasks.activelearning.random import Random

from esp_medsam.errors import InputNotFoundError, ModalityError, explain, one_of, quoted
from esp_medsam.integrations.dicomweb.access import read_access
from esp_medsam.integrations.dicomweb.client import Pacs
from esp_medsam.integrations.monai_label.batch_task import BatchTask
from esp_medsam.integrations.monai_label.click_task import CLICKS, ClickTask
from esp_medsam.integrations.monai_label.dicom_studies import DicomStudies
from esp_medsam.integrations.monai_label.failed import read_failed
from esp_medsam.integrations.monai_label.failed_first import FailedFirst
from esp_medsam.integrations.monai_label.final_labels import image_path
from esp_medsam.integrations.monai_label.folder_studies import FolderStudies
from esp_medsam.integrations.monai_label.guard import is_name
from esp_medsam.integrations.monai_label.parts import Parts
from esp_medsam.integrations.monai_label.request import ORIGINAL
from esp_medsam.integrations.monai_label.segment_task import Made, SegmentTask, remove_made
from esp_medsam.integrations.monai_label.train_task import TrainTask
from esp_medsam.integrations.monai_label.uncertainty import Scores, Uncertain, Uncertainty
from esp_medsam.version import __version__


logger = logging.getLogger(__name__)


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


def quieten() -> None:
    """Silence lines of others, which name images and paths; a task's lines reach clients."""
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("monailabel").setLevel(logging.ERROR)
    logging.getLogger("esp_medsam").setLevel(logging.INFO)


class EspMedSamApp(MONAILabelApp):  # type: ignore[misc]  # MONAI Label has no types
    """Segmentation without prompts, one model for each modality.

    Args:
        app_dir: Folder that ``esp-medsam label`` prepared.
        studies: Folder of images, or the address of a DICOMweb server.
        conf: Settings that MONAI Label's command was given.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        quieten()
        self.parts = Parts.of_app(Path(app_dir))
        self.modalities = self.parts.settings.modalities
        super().__init__(
            app_dir,
            studies,
            conf,
            name="esp_medsam",
            description="Segmentation of medical images of many modalities. For research only.",
            version=__version__,
        )

    def init_infers(self) -> dict[str, SegmentTask | ClickTask]:
        """Return a task for each modality, and one by clicks if they are offered."""
        automatic = {name: SegmentTask(name, self.parts) for name in self.modalities}
        if not self.parts.settings.clicks:
            return dict(automatic)
        clicked = {f"{name}{CLICKS}": ClickTask(task) for name, task in automatic.items()}
        return {**automatic, **clicked}

    def init_trainers(self) -> dict[str, TrainTask]:
        """Return a training task for each modality."""
        return {name: TrainTask(name, self.parts) for name in self.modalities}

    def train(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Train, in the process that the server starts for it.

        Raises:
            SystemExit: If it cannot be trained, after one line, which clients can see.
        """
        return self._alone(self._trainers.get(request["model"]), request)

    def scoring(
        self, request: Mapping[str, Any], datastore: Datastore | None = None
    ) -> dict[str, Any]:
        """Measure how sure the network is of images, in the process that the server starts for it.

        Raises:
            SystemExit: If they cannot be measured, after one line, which clients can see.
        """
        del datastore
        return self._alone(self._scoring_methods.get(request["method"]), request)

    def _alone(self, task: Callable[..., dict[str, Any]] | None, request: Any) -> dict[str, Any]:
        """Run a task in a process of its own, whose lines clients can see."""
        try:
            if task is None:  # another server took the folder meanwhile
                raise _unknown(request, self.modalities)
            stated = task(request, self.datastore())
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{type(error).__name__} in line {last.lineno} of {last.name}"
            logger.error("The task ended: %s", explain(error) or where)
            raise SystemExit(1) from None
        logger.info("Done: %s", json.dumps(stated))
        return stated

    def check_training(self, model: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request of a training, after the checks that are quick.

        Raises:
            EspMedSamError: If there is no such model, an option is invalid, or labels are missing.
        """
        task = self._trainers.get(model)
        if task is None:
            raise _unknown(model, self._trainers)
        asked: dict[str, Any] = task.checked(params, self.datastore())
        return {"model": model, **asked}

    def init_scoring_methods(self) -> dict[str, Uncertainty]:
        """Return the measure of uncertainty, one for each modality."""
        return {name: Uncertainty(name, self.parts, self._scores(name)) for name in self.modalities}

    def _scores(self, modality: str) -> Scores:
        return Scores(self.parts.folder, self.studies, modality)

    def check_batch(self, model: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request of a batch, with only what a request for one image may have.

        Raises:
            EspMedSamError: If there is no such model, or an option is invalid.
        """
        task = self._infers.get(model)
        if not isinstance(task, SegmentTask):
            raise _unknown(model, self.modalities)
        known = (*task.config(), "label_tag", "result_extension", "max_batch_size")
        asked = {name: params[name] for name in known if name in params}
        task.asked(asked)
        return {"model": model, **asked}

    def check_scoring(self, method: str) -> dict[str, Any]:
        """Return the request of a measurement.

        Raises:
            UnknownModelError: If there is no such model.
        """
        if method not in self._scoring_methods:
            raise _unknown(method, self._scoring_methods)
        return {"method": method}

    def init_strategies(self) -> dict[str, Any]:
        """Return the ways to choose the next image; the first is the one that clients take."""
        scores = [self._scores(name) for name in self.modalities]
        uncertain = Uncertain(scores, self.parts.versions)
        failed = read_failed(self.parts.folder)
        first = {"failed": FailedFirst(failed, uncertain)} if failed else {}
        return {**first, "random": Random(), "uncertain": uncertain}

    def check_strategy(self, strategy: str) -> None:
        """Refuse a way to choose that is not there.

        Raises:
            UnknownModelError: If it is not.
        """
        if strategy not in self._strategies:
            msg = f"strategy {one_of(self._strategies)}; got {quoted(strategy)}."
            raise UnknownModelError(msg)

    def init_batch_infer(self) -> BatchTask:
        """Return the task of many images."""
        return BatchTask()

    def init_datastore(self) -> Datastore:
        """Return the folder's or the server's images."""
        if self.studies.startswith(("http://", "https://")):
            return DicomStudies(
                Pacs(read_access(self.studies.rstrip("/"))),
                cache=self.parts.folder / "cache",
                table=self.parts.table,
                modalities=self.modalities,
            )
        return FolderStudies(self.studies, self.parts.table, self.modalities)

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
            raise _unknown(model, self._infers)
        if isinstance(image, Upload):
            made = task.segment(image.path, request)
            return _answer(made, str(made.file), ORIGINAL)
        asked = task.asked(request)
        made = task.segment(self._path_of(image, store), request)
        label = str(made.file)
        if asked.is_saved:
            told = {"model": model, "params": made.told}
            try:
                label = store.save_label(image, str(made.file), asked.tag, told)
            except BaseException:
                remove_made(str(made.file))
                raise
        return _answer(made, label, asked.tag)

    def infer_wsi(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> Any:
        """Refuse whole-slide images, whose requests may name any file.

        Raises:
            UnknownModelError: Always.
        """
        del request, datastore
        msg = "Whole-slide images must be segmented with `esp-medsam segment`; no model here is of "
        raise UnknownModelError(msg + "them.")

    def _path_of(self, image: object, store: Datastore) -> Path:
        """Return the path of an image that the studies hold.

        Raises:
            InputNotFoundError: If they hold no such image.
        """
        if not isinstance(image, str) or not is_name(image) or image not in store.list_images():
            msg = "image must be the id of an image of the studies; /datastore/?output=all lists "
            raise InputNotFoundError(msg + "them.")
        return image_path(store, image)


def _unknown(model: object, known: Iterable[str]) -> UnknownModelError:
    msg = f"model {one_of(known)}, which are modalities of images; got {quoted(str(model))}."
    return UnknownModelError(msg)


def _answer(made: Made, label: str, tag: str) -> dict[str, Any]:
    answer = {"label": label, "tag": tag, "file": str(made.file), "params": made.told}
    return answer if made.dicom_seg is None else {**answer, "dicom_seg": str(made.dicom_seg)}
