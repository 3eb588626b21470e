"""A real PACS: Debian's Orthanc with DICOMweb, on loopback ports."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from pydicom import dcmread


_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_PROPOSE = {
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}
"""Options of storescu that offer a transfer syntax, so that files go as they are."""


class Orthanc:
    """One server, with a folder of its own.

    Args:
        folder: Keeps its database, configuration and log.
        users: Name and password of who may enter; None lets everybody in.
    """

    def __init__(self, folder: Path, users: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.http, self.dicom = _free_ports()
        self.base = f"http://127.0.0.1:{self.http}"
        self.url = f"{self.base}/dicom-web"
        self._auth = next(iter(users.items())) if users else None
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        config = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": users is not None,
            "RegisteredUsers": users or {},
            "Plugins": [str(_PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(config))

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["Orthanc", str(self.folder / "orthanc.json")], stdout=log, stderr=log
            )
        for _ in range(200):
            try:
                self.rest("system")
            except requests.ConnectionError:
                time.sleep(0.1)
            else:
                return
        pytest.fail(f"Orthanc does not start:\n{(self.folder / 'log').read_text()}")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def rest(self, path: str) -> Any:
        """Return what its own REST interface answers."""
        response = requests.get(f"{self.base}/{path}", auth=self._auth, timeout=10)
        response.raise_for_status()
        return response.json()

    def send(self, *files: Path) -> None:
        """Send files as a scanner would, by C-STORE."""
        by_syntax: dict[str, list[str]] = {}
        for file in files:
            syntax = str(dcmread(file, stop_before_pixels=True).file_meta.TransferSyntaxUID)
            by_syntax.setdefault(syntax, []).append(str(file))
        for syntax, paths in by_syntax.items():
            offer = [_PROPOSE[syntax]] if syntax in _PROPOSE else []
            command = ["storescu", *offer, "-aec", "ORTHANC", "127.0.0.1", str(self.dicom), *paths]
            subprocess.run(command, check=True, capture_output=True)

    def find(self, modality: str) -> list[str]:
        """Return its own names of the instances of a modality."""
        query: dict[str, Any] = {"Level": "Instance", "Query": {"Modality": modality}}
        response = requests.post(f"{self.base}/tools/find", json=query, auth=self._auth, timeout=10)
        response.raise_for_status()
        return list(response.json())

    def save(self, instance: str, path: Path) -> Path:
        """Save an instance, named as :meth:`find` does."""
        response = requests.get(
            f"{self.base}/instances/{instance}/file", auth=self._auth, timeout=10
        )
        response.raise_for_status()
        path.write_bytes(response.content)
        return path


def skip_without_orthanc() -> None:
    """Skip the test where the programs are not installed."""
    missing = [name for name in ("Orthanc", "storescu") if shutil.which(name) is None]
    missing += [] if _PLUGIN.exists() else [str(_PLUGIN)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install orthanc orthanc-dicomweb dcmtk")


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
