"""Stream the single part of a multipart response to a file."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from typing import BinaryIO

from requests import Response

from esp_medsam.integrations.dicomweb.backoff import CutShortError


_CHUNK = 2**20
_LONGEST_HEAD = 2**14


def save_part(response: Response, file: BinaryIO) -> None:
    """Write the DICOM file in a response.

    Args:
        response: A streaming response: multipart with one part, or only the file, which some
            servers send against the standard.
        file: File open for writing bytes.

    Raises:
        CutShortError: If the response ends before its part does, or has no part or several.
    """
    content_type = Message()
    content_type["Content-Type"] = response.headers.get("Content-Type", "")
    chunks: Iterator[bytes] = response.iter_content(_CHUNK)
    if content_type.get_content_maintype() != "multipart":
        for chunk in chunks:
            file.write(chunk)
        return
    boundary = content_type.get_boundary("")
    if not boundary:
        raise CutShortError
    mark = b"\r\n--" + boundary.encode("latin-1", "replace")
    rest = _after_head(chunks, mark)
    while (end := rest.find(mark)) < 0:
        # Bytes that may begin the boundary are kept for the next chunk.
        ready = len(rest) - len(mark) + 1
        file.write(rest[: max(ready, 0)])
        rest = rest[max(ready, 0) :] + _next(chunks)
    file.write(rest[:end])
    tail = rest[end + len(mark) :]
    while len(tail) < 2:
        tail += _next(chunks)
    if tail[:2] != b"--":  # another part, which was not requested
        raise CutShortError


def _after_head(chunks: Iterator[bytes], mark: bytes) -> bytes:
    """Return the bytes received so far after the first boundary and the part's headers."""
    data = b"\r\n"  # precedes a boundary at the very start
    while True:
        data += _next(chunks)
        start = data.find(mark)
        end = data.find(b"\r\n\r\n", start)
        if start >= 0 and end >= 0:
            return data[end + 4 :]
        if len(data) > _LONGEST_HEAD + _CHUNK:
            raise CutShortError


def _next(chunks: Iterator[bytes]) -> bytes:
    for chunk in chunks:
        return chunk
    raise CutShortError
