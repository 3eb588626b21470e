"""A DICOMweb server for files of a folder: Orthanc, with a database that ends with it."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from pydicom import dcmread

from esp_medsam.dicom.dicom_file import is_dicom
from esp_medsam.errors import EmptyInputError, OptionError
from esp_medsam.quiet import quietly


_PLACES = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/local/share/orthanc/plugins")

PLUGINS = tuple(Path(folder, "libOrthancDicomWeb.so") for folder in _PLACES)
"""Where Orthanc's DICOMweb plugin may lie."""

logger = logging.getLogger(__name__)

START_SECONDS = 30.0


def dicom_files(folders: Iterable[Path]) -> tuple[list[Path], int]:
    """Return the DICOM files of folders that the viewer can show, and how many it cannot.

    Left out are damaged files, and segmentations of images that have no position in space, such as
    photographs, radiographs and cines: on those OHIF ends with an empty page.

    Args:
        folders: Files, or folders that are searched recursively.

    Raises:
        EmptyInputError: If there is no DICOM file.
    """
    paths = (
        path
        for folder in folders
        for path in sorted(folder.rglob("*") if folder.is_dir() else [folder])
    )
    files = [path for path in paths if path.is_file() and is_dicom(path)]
    if not files:
        msg = "source must hold DICOM files; it holds none. NIfTI and pictures have no viewer here."
        raise EmptyInputError(msg)
    shown = [path for path in files if _is_shown(path)]
    return shown, len(files) - len(shown)


def _is_shown(path: Path) -> bool:
    try:
        with quietly():
            header = dcmread(path, stop_before_pixels=True)
    except Exception:  # pydicom documents no set of errors for damaged files
        return False
    if header.get("Modality") != "SEG":
        return True
    groups = header.get("PerFrameFunctionalGroupsSequence") or [header]
    return "PlanePositionSequence" in groups[0]


@contextmanager
def serving(files: Iterable[Path]) -> Iterator[str]:
    """Serve DICOM files, and yield the address of the DICOMweb service.

    Args:
        files: The files.

    Raises:
        OptionError: If Orthanc or its plugin is not installed, or does not start.
    """
    plugin = next((path for path in PLUGINS if path.is_file()), None)
    program = shutil.which("Orthanc")
    if program is None or plugin is None:
        msg = (
            "Orthanc must be installed to view a folder, with its DICOMweb plugin; it is not. "
            "Install it (Debian: apt-get install orthanc orthanc-dicomweb), or pass the DICOMweb "
            "address of a PACS."
        )
        raise OptionError(msg)
    with tempfile.TemporaryDirectory(prefix="esp-medsam-view-") as home:
        port = free_port()
        config = Path(home, "orthanc.json")
        config.write_text(json.dumps(_config(Path(home, "database"), port, plugin)))
        process = subprocess.Popen(
            [program, str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            base = f"http://127.0.0.1:{port}"
            _wait(base, process)
            for path in files:
                _store(base, path)
            yield f"{base}/dicom-web"
        finally:
            process.terminate()
            process.wait()


def _store(base: str, path: Path) -> None:
    """Store a file; a warning says so if Orthanc does not take it.

    Raises:
        OptionError: If Orthanc has ended.
    """
    try:
        with path.open("rb") as content:
            answer = requests.post(f"{base}/instances", data=content, timeout=60)
    except requests.RequestException as error:
        msg = f"Orthanc must take the files, to view a folder; it ended at {path}."
        raise OptionError(msg) from error
    if not answer.ok:
        logger.warning("%s is left out: Orthanc does not take it.", path)


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _config(database: Path, port: int, plugin: Path) -> dict[str, object]:
    return {
        "StorageDirectory": str(database),
        "IndexDirectory": str(database),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }


def _wait(base: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until Orthanc answers.

    Raises:
        OptionError: If it ends, or does not answer in time.
    """
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            requests.get(f"{base}/system", timeout=5)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    msg = "Orthanc must start, to view a folder; it does not. Run it yourself to see why."
    raise OptionError(msg)
