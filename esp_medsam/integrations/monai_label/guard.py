"""What a request must be before MONAI Label's server sees it: known, small, and within its folders.

MONAI Label 0.8.5 has no check of its own without Keycloak: it reads any path that a request names,
and joins image, label and tag into paths.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl


Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

SERVED = ("activelearning", "batch", "datastore", "info", "infer", "scoring", "train")
"""First parts of the paths that are served, besides the description of the API.

Left out: sessions, which take any archive; weights, which clients could replace; logs, which they
do not need; the proxy, which would reach the PACS with the server's rights.
"""

WHOLE_SLIDE = re.compile(r"/infer/wsi\w*(/|$)")
"""Paths of requests for whole-slide images, whose body may name any file."""

CLOSED = (
    ("DELETE", "/datastore"),
    ("DELETE", "/datastore/image"),
    ("PUT", "/datastore/image/info"),
    ("PUT", "/datastore/label/info"),
    ("PUT", "/datastore/updatelabelinfo"),
)
"""Methods and paths that remove originals, or change what was checked; no client needs them."""

DESCRIPTION = ("", "auth", "docs", "favicon.ico", "openapi.json", "static")
"""First parts of the paths that describe the API; nothing about images is in them."""

NAMED = ("id", "image", "label", "model", "tag")
"""Query parameters that MONAI Label joins into paths."""

MOST_BYTES = 200
"""Longest name, so that an ending fits behind it in a file name of 255 bytes."""

_NAME = re.compile(r"[^/\\\x00-\x1f]{1,255}")


class RefusedError(Exception):
    """A request that is answered here.

    Args:
        status: HTTP status.
        detail: What the client is told.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Limits(NamedTuple):
    """What a request may be.

    Attributes:
        token: Bearer token that it must have; None to require none.
        most_bytes: Size of its body.
        hosts: Names of the server that it may use, with the port; None for any, as behind a proxy.
    """

    token: str | None
    most_bytes: int
    hosts: frozenset[str] | None = None


class Guard:
    """ASGI middleware that refuses requests before the app sees them.

    Args:
        app: MONAI Label's server.
        limits: What a request may be.
        at_end: Called when the server ends.
    """

    def __init__(self, app: App, limits: Limits, at_end: Callable[[], object] = bool) -> None:
        self.app = app
        self.limits = limits
        self.at_end = at_end

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] == "lifespan":
            try:
                await self.app(scope, receive, send)
            finally:
                self.at_end()
            return
        has_begun, body = False, _Body(receive, self.limits.most_bytes)

        async def watched(message: Message) -> None:
            nonlocal has_begun
            if not has_begun and body.is_too_large:  # FastAPI would answer that it cannot be parsed
                raise _too_large(self.limits.most_bytes)
            has_begun = True
            await send(message)

        try:
            if scope["type"] != "http":
                raise RefusedError(403, "Only HTTP is served.")
            headers = {k.decode("latin-1").lower(): v for k, v in scope["headers"]}
            self._check(scope, headers)
            await self.app(scope, body, watched)
        except RefusedError as error:
            if has_begun:
                raise
            await _answer(send, error)

    def _check(self, scope: Message, headers: MutableMapping[str, bytes]) -> None:
        path = "/" + scope["path"].lstrip("/")
        first = path.split("/")[1]
        if (first not in SERVED and first not in DESCRIPTION) or WHOLE_SLIDE.match(path):
            raise RefusedError(404, f"There is no /{first} here.")
        if (scope["method"], path.rstrip("/")) in CLOSED:
            raise RefusedError(403, "Images and what is stated about labels stay as they are.")
        self._check_origin(headers)
        if first in SERVED:
            self._check_token(headers)
        for name, value in _named(scope):
            if not is_name(value):
                raise RefusedError(400, f"{name} must be a name, without folders.")
        length = headers.get("content-length", b"0")
        if not length.isdigit() or int(length) > self.limits.most_bytes:
            raise _too_large(self.limits.most_bytes)

    def _check_origin(self, headers: MutableMapping[str, bytes]) -> None:
        """Refuse what a page of another site makes a browser send."""
        host = headers.get("host", b"").decode("latin-1").lower()
        if self.limits.hosts is not None and host not in self.limits.hosts:
            raise RefusedError(403, "The server has another name.")
        origin = headers.get("origin", b"").decode("latin-1").lower()
        if origin and origin.partition("://")[2] != host:
            raise RefusedError(403, "Pages of other sites are not answered.")

    def _check_token(self, headers: MutableMapping[str, bytes]) -> None:
        if self.limits.token is None:
            return
        wanted = f"Bearer {self.limits.token}".encode()
        if not hmac.compare_digest(headers.get("authorization", b""), wanted):
            raise RefusedError(401, "Send the server's token as `Authorization: Bearer TOKEN`.")


def is_name(text: str) -> bool:
    """Whether a text can be part of a file name, and leads to no other folder."""
    is_short = len(text.encode("utf-8", "surrogatepass")) <= MOST_BYTES
    return is_short and bool(_NAME.fullmatch(text)) and text not in (".", "..")


def _named(scope: Message) -> Iterator[tuple[str, str]]:
    """Yield the parameters that become part of a path."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=False)
    yield from ((name, value) for name, value in query if name in NAMED)


class _Body:
    """A request's body, which must not grow too large, whatever its header said."""

    def __init__(self, receive: Receive, most_bytes: int) -> None:
        self.receive = receive
        self.left = most_bytes

    @property
    def is_too_large(self) -> bool:
        return self.left < 0

    async def __call__(self) -> Message:
        message = await self.receive()
        self.left -= len(message.get("body", b""))
        if self.is_too_large:
            return {"type": "http.disconnect"}
        return message


def _too_large(most_bytes: int) -> RefusedError:
    return RefusedError(413, f"A request may have {most_bytes // 2**20} MiB.")


async def _answer(send: Send, error: RefusedError) -> None:
    body = json.dumps({"detail": error.detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
