"""A PACS that a test can make fail: an HTTP server in a thread, with DICOM files in memory."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from esp_medsam.integrations.dicomweb.access import Access
from esp_medsam.integrations.dicomweb.backoff import Backoff
from esp_medsam.integrations.dicomweb.client import Pacs
from tests.support.shipped_dicom import shipped


@dataclass
class Reply:
    """An answer that a test puts in place of the right one.

    Attributes:
        status: HTTP status; 0 closes the connection without an answer.
        headers: HTTP headers.
        body: What is sent.
        after: Seconds to wait before.
        claimed: Content-Length, where it is not that of the body.
        done: Whether the request is carried out all the same.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    after: float = 0.0
    claimed: int | None = None
    done: bool = False


class FakePacs:
    """Holds files by study, series and instance, and answers as DICOMweb does.

    Attributes:
        url: Its base URL.
        files: DICOM files by study, series and instance UID.
        requests: What was asked: method and path with its query.
        headers: Headers of each request.
        replies: Asked first, with method and path: a reply, or None for the right one.
        change: Changes the results of a search, given its path.
        page: Most results of a search.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/dicom-web"
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.replies: Callable[[str, str], Reply | None] = lambda method, path: None
        self.change: Callable[[str, list[Any]], list[Any]] = lambda path, found: found
        self.page = 1000

    def asked(self, part: str) -> list[str]:
        """Return the requests in which ``part`` occurs."""
        return [request for request in self.requests if part in request]

    def answer(self, method: str, path: str, body: bytes) -> Reply:
        """Return the right answer."""
        parts = urlsplit(path)
        steps = parts.path.removeprefix("/dicom-web/").split("/")
        if method == "POST":
            return self._stored(body)
        if len(steps) >= 6 and steps[4] == "instances":
            content = self.files.get((steps[1], steps[3], steps[5]))
            if content is None:
                return Reply(status=404)
            if steps[-1] == "metadata":
                return self._json([{"00080018": {"vr": "UI", "Value": [steps[5]]}}])
            head = b"--XYZ\r\nContent-Type: application/dicom\r\n\r\n"
            kind = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=XYZ'}
            return Reply(headers=kind, body=head + content + b"\r\n--XYZ--\r\n")
        query = parse_qs(parts.query)
        found = self.change(parts.path, self._found(steps))
        start = int(query.get("offset", ["0"])[0])
        return self._json(found[start : start + min(self.page, int(query["limit"][0]))])

    def _found(self, steps: list[str]) -> list[Any]:
        inside = [uids for uids in self.files if all(u in steps for u in uids[: len(steps) // 2])]
        depth = (len(steps) - 1) // 2
        results: dict[str, Any] = {}
        for uids in inside:
            tags = ("0020000D", "0020000E", "00080018")[: depth + 1]
            result = {t: {"vr": "UI", "Value": [u]} for t, u in zip(tags, uids, strict=False)}
            if depth == 1:
                image = dcmread(BytesIO(self.files[uids]), stop_before_pixels=True)
                count = sum(other[1] == uids[1] for other in self.files)
                result["00080060"] = {"vr": "CS", "Value": [str(image.Modality)]}
                result["00201209"] = {"vr": "IS", "Value": [count]}
            results[uids[depth]] = result
        return list(results.values())

    def _stored(self, body: bytes) -> Reply:
        content = body.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
        image = dcmread(BytesIO(content), stop_before_pixels=True)
        uids = (image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID)
        self.files[str(uids[0]), str(uids[1]), str(uids[2])] = content
        item = {"00081155": {"vr": "UI", "Value": [uids[2]]}}
        return self._json({"00081199": {"vr": "SQ", "Value": [item]}})

    def _json(self, content: object) -> Reply:
        kind = {"Content-Type": "application/dicom+json"}
        return Reply(headers=kind, body=json.dumps(content).encode())


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[FakePacs]:
    """Serve in a thread, over TLS where a context is given."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._do("GET")

        def do_POST(self) -> None:
            self._do("POST")

        def _do(self, method: str) -> None:
            body = self._body()
            pacs.requests.append(f"{method} {self.path}")
            pacs.headers.append(dict(self.headers))
            reply = pacs.replies(method, self.path)
            if reply is not None and reply.done:
                pacs.answer(method, self.path, body)
            reply = reply or pacs.answer(method, self.path, body)
            time.sleep(reply.after)
            if reply.status == 0:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            claimed = len(reply.body) if reply.claimed is None else reply.claimed
            if claimed >= 0:
                self.send_header("Content-Length", str(claimed))
            self.end_headers()
            self.wfile.write(reply.body)
            self.close_connection = True

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # closing waits for them: none writes while the next test runs

        def handle_error(self, *_: object) -> None:
            """Let a client go that hangs up, or refuses the certificate; both are wanted here."""
            if not isinstance(sys.exc_info()[1], OSError):
                super().handle_error(*_)

    server = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    pacs = FakePacs(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield pacs
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def fake() -> Iterator[FakePacs]:
    with serving() as server:
        yield server


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody trusts, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(key), "-out", str(cert)]
    command = ["openssl", "req", "-x509", *kind, *subject, *files]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


@pytest.fixture
def fake_tls(certificate: tuple[Path, Path]) -> Iterator[FakePacs]:
    """As ``fake``, over TLS, for clients that show the certificate alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate[0])
    with serving(context) as server:
        server.url = server.url.replace("http:", "https:")
        yield server


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


@pytest.fixture
def pauses() -> list[float]:
    """The seconds that were paused for: no test waits for them."""
    return []


@pytest.fixture
def pacs(fake: FakePacs, pauses: list[float]) -> Pacs:
    backoff = Backoff(attempts=3, sleep=pauses.append)
    return Pacs(Access(url=fake.url), timeout=5.0, backoff=backoff)


@pytest.fixture
def image() -> Callable[..., bytes]:
    """Return a function that makes a slice of pydicom's CT with other attributes."""

    def make(**attributes: object) -> bytes:
        dataset = dcmread(shipped("CT_small.dcm"))
        dataset.SOPInstanceUID = generate_uid()
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        with BytesIO() as buffer:
            dataset.save_as(buffer)
            return buffer.getvalue()

    return make
