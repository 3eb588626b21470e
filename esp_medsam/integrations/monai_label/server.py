"""MONAI Label's server with this app's own answers, as ``uvicorn`` runs it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path, PurePath
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, File, Form, HTTPException, Request, UploadFile
from fastapi.background import BackgroundTasks
from fastapi.responses import JSONResponse, Response
from monailabel.app import app as monai_label
from monailabel.config import settings as server_settings
from monailabel.endpoints.datastore import save_label
from monailabel.endpoints.infer import ResultType, send_response
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.task import AsyncTask

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
)
from esp_medsam.integrations.monai_label.app import EspMedSamApp, UnknownModelError, Upload
from esp_medsam.integrations.monai_label.guard import Guard, Limits
from esp_medsam.integrations.monai_label.request import FINAL
from esp_medsam.integrations.monai_label.segment_task import remove_made
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

_IS_USER = RBAC(server_settings.MONAI_LABEL_AUTH_ROLE_USER)

_IS_ANNOTATOR = RBAC(server_settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR)
_IS_ADMIN = RBAC(server_settings.MONAI_LABEL_AUTH_ROLE_ADMIN)

router = APIRouter()


@router.put("/datastore/label", tags=["Datastore"])
def put_label(
    background_tasks: BackgroundTasks,
    image: str,
    label: Annotated[UploadFile, File()],
    params: Annotated[str, Form()] = "{}",
    tag: str = FINAL,
    user: Annotated[User | None, Depends(_IS_ANNOTATOR)] = None,
) -> dict[str, Any]:
    """Save a label of an image.

    Unlike MONAI Label's own, this does not keep other requests waiting while the label is checked.
    """
    name = None if user is None else user.username
    given = json.dumps(_object(params))
    saved: dict[str, Any] = save_label(background_tasks, image, given, tag, label, name)
    return saved


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
    return _begun("train", app.check_training(model, params or {}), enqueue=enqueue)


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
    """Begin a task in a process of its own, and return what MONAI Label tells about it."""
    task, said = AsyncTask.run(kind, request=request, enqueue=enqueue)
    if task is None:
        raise HTTPException(429, f"{said}.")
    told: dict[str, Any] = task
    return told


@router.post("/infer/{model}", tags=["Infer"], response_model=None)
def infer(
    background_tasks: BackgroundTasks,
    model: str,
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
    given = _object(params)
    source: str | Upload = image
    if file is not None:
        source = _saved(file, app.temporary)
    elif not image:
        msg = "image must be the id of an image of the studies, or a file must come along."
        raise OptionError(msg)
    wants_seg = output == ResultType.dicom_seg
    try:
        result = app.infer({**given, "model": model, "image": source, "dicom_seg": wants_seg})
    finally:
        if isinstance(source, Upload):
            shutil.rmtree(source.path.parent, ignore_errors=True)
    background_tasks.add_task(remove_made, result["file"])
    answer: Response | dict[str, Any] = send_response(
        app.datastore(), result, output, background_tasks
    )
    return answer


def _object(params: str) -> dict[str, Any]:
    """Return the parameters of a form.

    Raises:
        OptionError: If they are no JSON object.
    """
    try:
        given = json.loads(params or "{}")
    except ValueError:
        given = None
    if not isinstance(given, dict):
        msg = "params must be a JSON object; got something else."
        raise OptionError(msg)
    return given


def _saved(file: UploadFile, folder: Path) -> Upload:
    """Save a file that came along, in a folder of its own.

    Raises:
        OptionError: If its name has no ending of an image.
    """
    name = PurePath(file.filename or "").name.lower()
    suffix = next((each for each in UPLOADED if name.endswith(each)), None)
    if suffix is None:
        msg = f"The ending of the file {one_of(UPLOADED)}; got another."
        raise OptionError(msg)
    path = Path(tempfile.mkdtemp(dir=folder)) / f"image{suffix}"
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
    assert isinstance(error, EspMedSamError)
    folder = server_settings.MONAI_LABEL_APP_DIR
    said, status = str(explain(error)).replace(f"{folder}{os.sep}", ""), status_of(error)
    if status >= 500:
        logger.error("A request ended in %s.", error.code)
    return JSONResponse({"detail": said, "code": error.code}, status)


def _guarded() -> Guard:
    """Return the server behind its guard."""
    monai_label.router.routes[:0] = router.routes  # the first that matches answers
    monai_label.add_exception_handler(EspMedSamError, _tell)
    monai_label.add_exception_handler(MONAILabelException, _tell)
    folder = Path(server_settings.MONAI_LABEL_APP_DIR)
    own = LabelSettings.read(folder)
    tempfile.tempdir = str(folder / TEMPORARY)  # MONAI Label's uploads, too, go there
    token = os.environ.get(TOKEN_VARIABLE) or None
    loopback = frozenset(f"{name}:{own.port}" for name in ("127.0.0.1", "localhost", "[::1]"))
    # With a token the server may have other names: a page that was led here does not have it.
    limits = Limits(token, own.most_mebibytes * 2**20, loopback if token is None else None)
    return Guard(monai_label, limits)


app = _guarded()
