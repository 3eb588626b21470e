"""MONAI Label's server with this app's own answers, as ``uvicorn`` runs it."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path, PurePath
from threading import Lock
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, File, Form, HTTPException, Request, UploadFile
from fastapi.background import BackgroundTasks
from fastapi.responses import JSONResponse, Response
from monailabel.app import app as monai_label
from monailabel.config import settings as server_settings
from monailabel.endpoints.activelearning import sample
from monailabel.endpoints.infer import ResultType, send_response
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.task import AsyncTask
from monailabel.utils.async_tasks.utils import background_executors

from esp_medsam.errors import (
    CheckpointError,
    DeviceError,
    EspMedSamError,
    InputNotFoundError,
    NetworkOutputError,
    OptionError,
    OutputError,
    PacsError,
    RuntimeCheckError,
    TimeUpError,
    TooLargeError,
    explain,
    one_of,
    own_error,
)
from esp_medsam.integrations.monai_label.app import EspMedSamApp, UnknownModelError, Upload
from esp_medsam.integrations.monai_label.guard import Guard, Limits
from esp_medsam.integrations.monai_label.request import EXTENSIONS, FINAL
from esp_medsam.integrations.monai_label.segment_task import new_folder, remove_made
from esp_medsam.integrations.monai_label.sent_json import checked_object, object_of
from esp_medsam.integrations.monai_label.settings import (
    TEMPORARY,
    TOKEN_VARIABLE,
    LabelSettings,
)
from esp_medsam.io.formats import NIFTI_SUFFIXES, RASTER_SUFFIXES


logger = logging.getLogger(__name__)

STATUSES: dict[type[EspMedSamError], int] = {
    UnknownModelError: 404,
    InputNotFoundError: 404,
    TooLargeError: 413,
    TimeUpError: 503,
    PacsError: 502,
    OutputError: 507,
    CheckpointError: 500,
    DeviceError: 500,
    NetworkOutputError: 500,
    RuntimeCheckError: 500,
}
"""HTTP status of an error; 422 for others, which a client can mend."""

UPLOADED = (*NIFTI_SUFFIXES, ".nrrd", ".mha", *RASTER_SUFFIXES, ".dcm")
"""Endings of files that may come with a request."""

MOST_SECONDS_TO_BEGIN = 30
"""Time that the process of a task may take to start."""

_BEGINNING = Lock()

_IS_USER = RBAC(server_settings.MONAI_LABEL_AUTH_ROLE_USER)
_IS_ANNOTATOR = RBAC(server_settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR)
_IS_ADMIN = RBAC(server_settings.MONAI_LABEL_AUTH_ROLE_ADMIN)

router = APIRouter()


@router.put("/datastore/label", tags=["Datastore"])
def put_label(
    image: str,
    label: Annotated[UploadFile, File()],
    params: Annotated[str, Form()] = "{}",
    tag: str = FINAL,
    user: Annotated[User | None, Depends(_IS_ANNOTATOR)] = None,
) -> dict[str, Any]:
    """Save a label of an image.

    Unlike MONAI Label's own, this does not keep other requests waiting while the label is checked,
    and leaves nothing behind if it is refused.
    """
    app: EspMedSamApp = app_instance()
    given = object_of(params)
    if user is not None:
        given["user"] = user.username
    sent = _saved(label, app.parts.temporary, EXTENSIONS)
    try:
        saved = app.datastore().save_label(image, str(sent.path), tag or FINAL, given)
    finally:
        shutil.rmtree(sent.path.parent, ignore_errors=True)
    return {"image": image, "label": saved}


@router.post("/activelearning/{strategy}", tags=["ActiveLearning"])
def choose(
    strategy: str,
    params: Annotated[dict[str, Any] | None, Body()] = None,
    user: Annotated[User | None, Depends(_IS_USER)] = None,
) -> dict[str, Any]:
    """Return the next image to label, without the path that it has on the server."""
    app: EspMedSamApp = app_instance()
    app.check_strategy(strategy)
    asked = {**checked_object(params or {}), "strategy": strategy}
    chosen: dict[str, Any] = sample(strategy, asked, None if user is None else user.username)
    chosen.pop("path", None)
    return chosen


@router.post("/batch/infer/{model}", tags=["Infer"])
def batch(
    model: str,
    images: BatchInferImageType = BatchInferImageType.IMAGES_ALL,
    params: Annotated[dict[str, Any] | None, Body()] = None,
    run_sync: bool = False,
    user: Annotated[User | None, Depends(_IS_ADMIN)] = None,
) -> dict[str, Any]:
    """Segment many images, and save the results as labels.

    Unlike MONAI Label's own, this does not keep other requests waiting, and refuses at once what
    cannot be asked.
    """
    del user
    app: EspMedSamApp = app_instance()
    asked = app.check_batch(model, checked_object(params or {}))
    request = {**asked, "images": images.value}
    if run_sync:
        results: dict[str, Any] = app.batch_infer(request)
        return results
    return _begun("batch_infer", request)


@router.post("/train/", include_in_schema=False)
@router.post("/train/{model}", tags=["Train"])
def train(
    model: str = "",
    params: Annotated[dict[str, Any] | None, Body()] = None,
    enqueue: bool = False,
    user: Annotated[User | None, Depends(_IS_ADMIN)] = None,
) -> dict[str, Any]:
    """Train on the final labels of a modality's images, in a process of its own.

    Unlike MONAI Label's own, this refuses at once what cannot be trained.
    """
    del user
    app: EspMedSamApp = app_instance()
    return _begun("train", app.check_training(model, checked_object(params or {})), enqueue=enqueue)


@router.post("/scoring/", include_in_schema=False)
@router.post("/scoring/{method}", tags=["Scoring"])
def score(
    method: str = "", user: Annotated[User | None, Depends(_IS_ANNOTATOR)] = None
) -> dict[str, Any]:
    """Measure how sure the network is of a modality's unlabeled images, in a process of its own."""
    del user
    app: EspMedSamApp = app_instance()
    return _begun("scoring", app.check_scoring(method))


def _begun(kind: str, request: dict[str, Any], *, enqueue: bool = False) -> dict[str, Any]:
    """Begin a task in a process of its own, and return what MONAI Label tells about it.

    MONAI Label knows a task from when its process runs: before that, it could not be stopped, and
    a second one would begin beside it.
    """
    with _BEGINNING:
        task, said = AsyncTask.run(kind, request=request, enqueue=enqueue)
        if task is None:
            raise HTTPException(429, f"{said}.")
        latest = time.monotonic() + MOST_SECONDS_TO_BEGIN
        while not enqueue and task["status"] == "SUBMITTED" and time.monotonic() < latest:
            time.sleep(0.02)
    told: dict[str, Any] = task
    return told


@router.post("/infer/", include_in_schema=False, response_model=None)
@router.post("/infer/{model}", tags=["Infer"], response_model=None)
def infer(
    background_tasks: BackgroundTasks,
    model: str = "",
    image: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    output: ResultType | None = None,
    user: Annotated[User | None, Depends(_IS_USER)] = None,
) -> Response | dict[str, Any]:
    """Segment an image of the studies, or one that comes with the request.

    Unlike MONAI Label's own, this does not keep other requests waiting, and reads no path.
    """
    del user
    app: EspMedSamApp = app_instance()
    given = object_of(params)
    source: str | Upload = image
    if file is not None:
        source = _saved(file, app.parts.temporary)
    elif not image:
        msg = "image must be the id of an image of the studies, or a file must come along."
        raise OptionError(msg)
    wants_seg = output == ResultType.dicom_seg
    try:
        result = app.infer({**given, "model": model, "image": source, "dicom_seg": wants_seg})
    finally:
        if isinstance(source, Upload):
            shutil.rmtree(source.path.parent, ignore_errors=True)
    try:
        answer: Response | dict[str, Any] = send_response(
            app.datastore(), result, output, background_tasks
        )
    except BaseException:
        remove_made(result["file"])
        raise
    background_tasks.add_task(remove_made, result["file"])
    return answer


def _saved(file: UploadFile, folder: Path, endings: Sequence[str] = UPLOADED) -> Upload:
    """Save a file that came along, in a folder of its own.

    Raises:
        OptionError: If its name has none of the endings.
    """
    name = PurePath(file.filename or "").name.lower()
    suffix = next((each for each in endings if name.endswith(each)), None)
    if suffix is None:
        msg = f"The ending of the file {one_of(endings)}; got another."
        raise OptionError(msg)
    with new_folder(folder) as own:
        path = own / f"sent{suffix}"
        with path.open("wb") as written:
            shutil.copyfileobj(file.file, written)
    return Upload(path)


def status_of(error: EspMedSamError) -> int:
    """Return the HTTP status of an error."""
    return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 422)


async def _tell(request: Request, error: Exception) -> JSONResponse:
    """Answer an error in one line, with its code; paths on the server are not told."""
    del request
    if isinstance(error, MONAILabelException):
        return JSONResponse({"detail": str(error.msg)}, 422)
    ours = own_error(error)
    if ours is None:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in line {last.lineno} of {last.name}"
        logger.error("A request ended in %s.", where)
        return JSONResponse({"detail": f"E_INTERNAL: {where}.", "code": "E_INTERNAL"}, 500)
    said, status = str(explain(ours)), status_of(ours)
    if isinstance(error, OSError) and not isinstance(error, EspMedSamError):
        said, status = f"{ours.code}: a file of the server could not be used.", 507
    for folder in (server_settings.MONAI_LABEL_APP_DIR, server_settings.MONAI_LABEL_STUDIES):
        said = said.replace(f"{folder}{os.sep}", "") if folder else said
    if status >= 500:
        logger.error("A request ended in %s.", ours.code)
    return JSONResponse({"detail": said, "code": ours.code}, status)


def _guarded() -> Guard:
    """Return the server behind its guard."""
    monai_label.router.routes[:0] = router.routes  # the first that matches answers
    monai_label.add_exception_handler(EspMedSamError, _tell)
    monai_label.add_exception_handler(MONAILabelException, _tell)
    monai_label.add_exception_handler(OSError, _tell)
    monai_label.add_exception_handler(Exception, _tell)
    folder = Path(server_settings.MONAI_LABEL_APP_DIR)
    own = LabelSettings.read(folder)
    tempfile.tempdir = str(folder / TEMPORARY)  # MONAI Label's uploads, too, go there
    token = os.environ.get(TOKEN_VARIABLE) or None
    loopback = frozenset(f"{name}:{own.port}" for name in ("127.0.0.1", "localhost", "[::1]"))
    # With a token the server may have other names: a page that was led here does not have it.
    limits = Limits(token, own.most_mebibytes * 2**20, loopback if token is None else None)
    return Guard(monai_label, limits, at_end=_end_tasks)


def _end_tasks() -> None:
    """End the processes of tasks, which would go on with files that the next server replaces."""
    for executor in background_executors.values():
        executor.shutdown(wait=False, cancel_futures=True)  # the next one waits for this one's end
    for kind in ("train", "scoring", "batch_infer"):
        AsyncTask.stop(kind)


app = _guarded()
