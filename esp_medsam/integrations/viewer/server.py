"""Serve OHIF's pages and, under the same address, the DICOMweb service that they show."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import requests

from esp_medsam.integrations.dicomweb.access import Access
from esp_medsam.integrations.dicomweb.session import PacsSession
from esp_medsam.integrations.viewer.ohif import CONFIG


DICOMWEB = "/dicom-web"
"""Path of the DICOMweb service beside the pages."""

PASSED_ON = ("accept", "content-type")
"""Headers of a request that the service gets to see."""

_CHUNK = 2**16
_TIMEOUT = 120.0


def viewer_config() -> str:
    """Return OHIF's configuration: one data source, beside its pages, and no other server."""
    root = dict.fromkeys(("wadoUriRoot", "qidoRoot", "wadoRoot"), DICOMWEB)
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "esp_medsam",
        "configuration": {
            "friendlyName": "esp_medsam",
            "name": "esp_medsam",
            **root,
            "qidoSupportsIncludeField": False,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
            "staticWado": False,
            "singlepart": "bulkdata,video,pdf",
            "bulkDataURI": {"enabled": True, "relativeResolution": "studies"},
            "omitQuotationForMultipartRequest": True,
        },
    }
    config = {
        "name": "esp_medsam",
        "routerBasename": "/",
        "extensions": [],
        "modes": [],
        "customizationService": {},
        "showStudyList": True,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "strictZSpacingForVolumeViewport": True,
        "defaultDataSourceName": "esp_medsam",
        "dataSources": [source],
        "investigationalUseDialog": {"option": "always"},
    }
    return f"window.config = {json.dumps(config)};\n"


@contextmanager
def viewer_at(pages: Path, access: Access, port: int = 0) -> Iterator[str]:
    """Serve the viewer on loopback, and yield its address.

    Args:
        pages: Folder of OHIF's pages.
        access: DICOMweb service to show, with its credentials, which the browser does not get.
        port: Port to listen on; 0 for any that is free.

    Raises:
        OSError: If something else listens on the port.
    """

    class Handler(_Handler):
        dicomweb = access
        session = PacsSession(access)

        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(pages))

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


class _Handler(SimpleHTTPRequestHandler):
    """Answers one request; only reads, and only for this machine's own pages."""

    dicomweb: Access
    session: requests.Session
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with a page, or with what the service answers."""
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        if host not in ("127.0.0.1", "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN, "The viewer has another name.")
            return
        path = urlsplit(self.path).path
        if path.startswith(f"{DICOMWEB}/"):
            self._pass_on()
        elif path == f"/{CONFIG}":
            self._answer(viewer_config().encode(), "text/javascript")
        else:
            if not Path(self.translate_path(self.path)).is_file():
                self.path = "/index.html"  # a place in the viewer
            super().do_GET()

    def end_headers(self) -> None:
        """Add what the viewer's threads need, and forbid all other addresses."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing: addresses name patients' studies."""

    def guess_type(self, path: Any) -> str:
        """Return the type of a page; systems differ in what they know."""
        known = {".js": "text/javascript", ".wasm": "application/wasm", ".css": "text/css"}
        guessed = mimetypes.guess_type(str(path))[0] or "application/octet-stream"
        return known.get(Path(str(path)).suffix, guessed)

    def _pass_on(self) -> None:
        """Ask the service, and send on what it answers, piece by piece."""
        if ".." in unquote(urlsplit(self.path).path).split("/"):
            self.send_error(HTTPStatus.NOT_FOUND, "There is nothing beside the DICOMweb service.")
            return
        url = self.dicomweb.url + self.path.removeprefix(DICOMWEB)
        headers = {k: v for k, v in self.headers.items() if k.lower() in PASSED_ON}
        self.close_connection = True  # the length of an answer is not known
        try:
            answer = self.session.get(url, headers=headers, stream=True, timeout=_TIMEOUT)
        except requests.RequestException:
            self.send_error(HTTPStatus.BAD_GATEWAY, "The DICOMweb service does not answer.")
            return
        # An answer or a reader that breaks off leaves a short body, which no one takes for whole.
        with answer, suppress(requests.RequestException, BrokenPipeError, ConnectionResetError):
            self.send_response(answer.status_code)
            if "Content-Type" in answer.headers:
                self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Connection", "close")
            self.end_headers()
            for piece in answer.iter_content(_CHUNK):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

    def _answer(self, content: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
