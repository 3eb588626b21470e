"""The guard in front of MONAI Label's server, as ASGI calls it; no server is needed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from esp_medsam.integrations.monai_label.guard import Guard, Limits, is_name


HOST = "127.0.0.1:8000"


async def _app(scope: Any, receive: Any, send: Any) -> None:
    """Read the whole body, and answer with its length."""
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % length})


def ask(
    path: str,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    chunks: tuple[bytes, ...] = (b"",),
    limits: Limits = Limits(None, 1000, frozenset({HOST})),  # noqa: B008  # it is constant
    method: str = "GET",
) -> tuple[int, str]:
    """Return the status of an answer and its text."""
    sent: list[Any] = []
    waiting = list(chunks)

    async def receive() -> Any:
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        sent.append(message)

    given = {"host": HOST, **(headers or {})}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in given.items()],
    }
    asyncio.run(Guard(_app, limits)(scope, receive, send))
    start, body = sent
    text: str = body["body"].decode()
    return start["status"], json.loads(text)["detail"] if start["status"] != 200 else text


class TestOriginals:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("DELETE", "/datastore/image"),
            ("DELETE", "/datastore/"),
            ("DELETE", "//datastore/image/"),
            ("PUT", "/datastore/label/info"),
            ("PUT", "/datastore/image/info"),
            ("PUT", "/datastore/updatelabelinfo"),
        ],
    )
    def test_and_what_was_checked_cannot_be_changed(self, method: str, path: str) -> None:
        assert ask(path, method=method)[0] == 403

    def test_labels_can(self) -> None:
        assert ask("/datastore/label", method="DELETE")[0] == 200


class TestEnd:
    def test_ends_what_the_server_started(self) -> None:
        ended: list[bool] = []
        guard = Guard(_app, Limits(None, 1000), at_end=lambda: ended.append(True))

        async def receive() -> Any:
            return {"type": "lifespan.shutdown", "body": b""}

        async def send(_: Any) -> None:
            return None

        asyncio.run(guard({"type": "lifespan"}, receive, send))

        assert ended == [True]


class TestPaths:
    @pytest.mark.parametrize("path", ["/info/", "/infer/ct", "/batch/infer/ct", "/docs", "/"])
    def test_those_of_the_api_are_served(self, path: str) -> None:
        assert ask(path) == (200, "0")

    @pytest.mark.parametrize(
        "path",
        [
            *("/session/", "/logs/", "/proxy/dicom", "/ohif/", "/x", "/model/ct"),
            *("/infer/wsi/ct", "/infer/wsi_v2/ct", "//infer/wsi/ct", "/infer/wsi"),
        ],
    )
    def test_those_that_reach_further_are_not(self, path: str) -> None:
        assert ask(path)[0] == 404


class TestNames:
    @pytest.mark.parametrize("name", ["image", "label", "tag", "id", "model"])
    @pytest.mark.parametrize(
        "value", ["../x", "%2Fetc%2Fpasswd", "a%5Cb", "..", "a%00", "x%2e%2e/"]
    )
    def test_those_that_lead_elsewhere_are_refused(self, name: str, value: str) -> None:
        status, said = ask("/datastore/label", f"image=one&{name}={value}")

        assert (status, said) == (400, f"{name} must be a name, without folders.")

    @pytest.mark.parametrize("value", ["ct_1", "1.2.840.113", "Jürgen scan (2)", ".hidden"])
    def test_those_of_files_are_passed_on(self, value: str) -> None:
        assert is_name(value)
        assert ask("/datastore/image", f"image={value}")[0] == 200


class TestToken:
    LIMITS = Limits("secret", 1000, None)

    @pytest.mark.parametrize(
        "sent", [{}, {"authorization": "Bearer other"}, {"authorization": "secret"}]
    )
    def test_without_it_nothing_of_images_is_served(self, sent: dict[str, str]) -> None:
        assert ask("/info/", headers=sent, limits=self.LIMITS)[0] == 401

    def test_with_it_requests_are_passed_on(self) -> None:
        sent = {"authorization": "Bearer secret"}

        assert ask("/info/", headers=sent, limits=self.LIMITS)[0] == 200

    def test_the_description_of_the_api_needs_none(self) -> None:
        assert ask("/openapi.json", limits=self.LIMITS)[0] == 200


class TestBodies:
    def test_one_that_says_that_it_is_too_large_is_not_read(self) -> None:
        assert ask("/infer/ct", headers={"content-length": "1001"})[0] == 413

    def test_one_that_grows_too_large_is_broken_off(self) -> None:
        assert ask("/infer/ct", chunks=(b"x" * 600, b"x" * 600))[0] == 413

    def test_one_within_the_limit_arrives_whole(self) -> None:
        assert ask("/infer/ct", chunks=(b"x" * 600, b"x" * 400)) == (200, "1000")

    def test_a_length_that_is_no_number_is_refused(self) -> None:
        assert ask("/infer/ct", headers={"content-length": "-1"})[0] == 413


class TestOtherSites:
    def test_their_pages_are_not_answered(self) -> None:
        assert ask("/info/", headers={"origin": "http://elsewhere.example"})[0] == 403

    def test_the_server_s_own_pages_are(self) -> None:
        assert ask("/info/", headers={"origin": f"http://{HOST}"})[0] == 200

    def test_behind_a_proxy_the_server_has_the_proxy_s_name(self) -> None:
        sent = {"host": "label.hospital.example", "origin": "https://label.hospital.example"}

        assert ask("/info/", headers=sent, limits=Limits(None, 1000, None))[0] == 200

    def test_a_name_that_was_made_to_point_here_is_not_answered(self) -> None:
        assert ask("/info/", headers={"host": "elsewhere.example:8000"})[0] == 403
