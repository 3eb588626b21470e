"""The viewer's pages, its server and its store; no browser is needed."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests

from esp_medsam.cli.main import main
from esp_medsam.errors import CorruptFileError, EmptyInputError, InputNotFoundError, OptionError
from esp_medsam.integrations.dicomweb.access import Access, BearerAuth
from esp_medsam.integrations.viewer import ohif, store
from esp_medsam.integrations.viewer.server import viewer_at
from esp_medsam.io import read, settle_modality
from esp_medsam.io.dicom_seg import SegOptions, write_dicom_seg
from esp_medsam.modality import ModalityTable
from tests.support.shipped_dicom import copy_shipped, shipped


def archive(path: Path, *names: str) -> Path:
    """Write an archive as the registry has it, with files of a few bytes."""
    with tarfile.open(path, "w:gz") as content:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 4
            content.addfile(entry, io.BytesIO(b"page"))
    return path


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The viewer, installed from an archive."""
    file = archive(
        tmp_path / "app.tgz",
        *("package/dist/index.html", "package/dist/app-config.js", "package/dist/app.js"),
        *("package/readme.md", "package/dist/assets/logo.svg"),
    )
    digest = base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
    monkeypatch.setattr(ohif, "SHA512", digest)
    ohif.install(tmp_path / "ohif", file)
    return tmp_path / "ohif"


class TestInstall:
    def test_unpacks_the_pages_alone(self, pages: Path) -> None:
        held = sorted(p.relative_to(pages).as_posix() for p in pages.rglob("*") if p.is_file())

        assert held == ["app-config.js", "app.js", "assets/logo.svg", "index.html"]
        assert ohif.pages(pages) == pages

    def test_refuses_another_archive_and_keeps_what_is_there(
        self, tmp_path: Path, pages: Path
    ) -> None:
        other = archive(tmp_path / "other.tgz", "package/dist/index.html")

        with pytest.raises(CorruptFileError, match="archive must be that of OHIF"):
            ohif.install(pages, other)

        assert (pages / "app.js").is_file()
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]

    def test_an_archive_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(InputNotFoundError, match="archive must be an existing file"):
            ohif.install(tmp_path / "ohif", tmp_path / "none.tgz")

    def test_a_path_out_of_the_folder_is_not_unpacked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = archive(tmp_path / "app.tgz", "package/dist/../../../escaped")
        digest = base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
        monkeypatch.setattr(ohif, "SHA512", digest)

        with pytest.raises(CorruptFileError):
            ohif.install(tmp_path / "a" / "ohif", file)

        assert not list(tmp_path.rglob("escaped"))

    def test_a_viewer_that_is_not_installed_is_told_with_how_to(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="esp-medsam view --setup"):
            ohif.pages(tmp_path)


class _Service(BaseHTTPRequestHandler):
    """A DICOMweb service that answers with what it was asked."""

    def do_GET(self) -> None:
        told = json.dumps(
            [self.path, self.headers.get("Accept"), self.headers.get("Authorization")]
        )
        self.send_response(404 if "none" in self.path else 200)
        self.send_header("Content-Type", "application/dicom+json")
        if "broken" in self.path:
            self.send_header("Content-Length", "1000")  # and then it ends
        self.end_headers()
        self.wfile.write(told.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Service) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/dicom-web"
        server.shutdown()


@pytest.fixture
def address(pages: Path, service: str) -> Iterator[str]:
    with viewer_at(pages, Access(url=service, auth=BearerAuth("secret"))) as address:
        yield address


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers=headers, timeout=10)


class TestServer:
    def test_the_viewer_is_told_of_the_service_beside_its_pages_alone(self, address: str) -> None:
        answer = get(f"{address}app-config.js")

        config = json.loads(answer.text.removeprefix("window.config = ").rstrip().rstrip(";"))
        (source,) = config["dataSources"]
        assert source["configuration"]["wadoRoot"] == "/dicom-web"
        assert "http" not in answer.text

    @pytest.mark.parametrize("path", ["", "viewer?StudyInstanceUIDs=1.2", "app.js"])
    def test_pages_and_places_in_the_viewer_are_pages(self, address: str, path: str) -> None:
        answer = get(address + path)

        assert (answer.status_code, answer.text) == (200, "page")
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"

    def test_the_service_is_asked_with_credentials_that_the_browser_never_has(
        self, address: str, service: str
    ) -> None:
        answer = get(f"{address}dicom-web/studies?limit=1", Accept="application/dicom+json")

        path, accept, credentials = answer.json()
        assert path == "/dicom-web/studies?limit=1"
        assert accept == "application/dicom+json"
        assert credentials == "Bearer secret"
        assert "secret" not in str(answer.headers)

    def test_what_the_service_refuses_is_refused(self, address: str) -> None:
        assert get(f"{address}dicom-web/studies/none").status_code == 404

    def test_an_answer_that_breaks_off_is_not_taken_for_whole(self, address: str) -> None:
        with pytest.raises(requests.RequestException):
            get(f"{address}dicom-web/studies/broken")

    @pytest.mark.parametrize("path", ["../admin", "%2e%2e/admin", "studies/..%2f..%2fadmin"])
    def test_what_lies_beside_the_service_is_not_asked_for(self, address: str, path: str) -> None:
        host, port = urlsplit(address).hostname, urlsplit(address).port
        assert host is not None
        connection = HTTPConnection(host, port, timeout=10)
        connection.request("GET", f"/dicom-web/{path}")

        assert connection.getresponse().status == 404

        connection.close()

    def test_a_service_that_is_gone_is_told(self, pages: Path) -> None:
        with viewer_at(pages, Access(url="http://127.0.0.1:1/dicom-web")) as address:
            assert get(f"{address}dicom-web/studies").status_code == 502

    def test_other_names_of_this_machine_are_not_answered(self, address: str) -> None:
        assert get(address, Host="elsewhere.example").status_code == 403

    @pytest.mark.parametrize("path", ["../ohif.tgz", "%2e%2e/app.tgz", "..%2fapp.tgz"])
    def test_files_beside_the_pages_are_not_served(self, address: str, path: str) -> None:
        prepared = requests.Request("GET", address).prepare()
        prepared.url = address + path
        with requests.Session() as session:
            assert session.send(prepared, timeout=10).text == "page"  # the viewer itself


class TestStore:
    def test_a_folder_without_dicom_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "scan.nii.gz").write_bytes(b"")

        with pytest.raises(EmptyInputError, match="source must hold DICOM files"):
            store.dicom_files([tmp_path])

    def test_segmentations_that_end_the_viewer_are_left_out(
        self, tmp_path: Path, table: ModalityTable
    ) -> None:
        (tmp_path / "damaged.dcm").write_bytes(shipped("image_dfl.dcm").read_bytes()[:-2000])
        for name, modality in (("CT_small.dcm", "ct"), ("examples_rgb_color.dcm", "ultrasound")):
            file = copy_shipped(tmp_path / modality / "image.dcm", like=name)
            image = settle_modality(read(file), modality, table)
            target = table[modality].targets[0]
            mask = np.ones(image.grid.shape, np.uint8)
            assert write_dicom_seg(
                tmp_path / modality / "seg.dcm", image, iter([mask]), [target], SegOptions()
            )

        shown, left_out = store.dicom_files([tmp_path])

        names = [path.relative_to(tmp_path).as_posix() for path in shown]
        assert names == ["ct/image.dcm", "ct/seg.dcm", "ultrasound/image.dcm"]
        assert left_out == 2

    def test_a_machine_without_orthanc_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = copy_shipped(tmp_path / "a.dcm")
        monkeypatch.setattr(store, "PLUGINS", ())

        with (
            pytest.raises(OptionError, match=r"Orthanc must be installed .* or pass the DICOMweb"),
            store.serving([file]),
        ):
            pass


class TestCommand:
    @pytest.mark.parametrize(
        ("arguments", "status", "said"),
        [
            ((), 2, "a source must be given"),
            (("none",), 1, "E_NOT_FOUND: source must be an existing file or folder"),
            (("http://a/dicom-web", "b"), 1, "source must be folders, or one address"),
        ],
    )
    def test_refuses_what_it_cannot_show_in_one_line(
        self,
        pages: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: Any,
        arguments: tuple[str, ...],
        status: int,
        said: str,
    ) -> None:
        monkeypatch.setattr(ohif, "default_folder", lambda: pages)

        assert main(["view", "--no-browser", *arguments]) == status

        assert said in capsys.readouterr().err
