from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests import Response

from esp_medsam.integrations.dicomweb.backoff import CutShortError
from esp_medsam.integrations.dicomweb.multipart import save_part


class Answer(Response):
    """An answer that comes in pieces of these lengths, over and over."""

    def __init__(self, body: bytes, lengths: list[int]) -> None:
        super().__init__()
        self.headers["Content-Type"] = 'multipart/related; boundary="=b"'
        self._body, self._lengths = body, lengths

    def iter_content(
        self, chunk_size: int | None = 1, decode_unicode: bool = False
    ) -> Iterator[bytes]:
        start, number = 0, 0
        while start < len(self._body):
            length = self._lengths[number % len(self._lengths)]
            yield self._body[start : start + length]
            start, number = start + length, number + 1


HEAD = b"--=b\r\nContent-Type: application/dicom\r\n\r\n"
CONTENTS = st.lists(st.sampled_from([b"\r\n", b"--", b"=b", b"\r", b"-", b"DICM", b"\0"])).map(
    b"".join
)
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=5)


class TestSavePart:
    @given(content=CONTENTS.filter(lambda c: b"\r\n--=b" not in c), lengths=LENGTHS)
    def test_gives_the_content_however_it_is_cut(self, content: bytes, lengths: list[int]) -> None:
        file = BytesIO()

        save_part(Answer(HEAD + content + b"\r\n--=b--\r\n", lengths), file)

        assert file.getvalue() == content

    @given(lengths=LENGTHS, missing=st.integers(3, 20))
    def test_refuses_what_ends_before_its_end(self, lengths: list[int], missing: int) -> None:
        body = HEAD + b"DICM" * 4 + b"\r\n--=b--\r\n"

        with pytest.raises(CutShortError):
            save_part(Answer(body[:-missing], lengths), BytesIO())

    def test_takes_a_preamble(self) -> None:
        file = BytesIO()

        save_part(Answer(b"\r\nhello\r\n" + HEAD + b"DICM\r\n--=b--", [7]), file)

        assert file.getvalue() == b"DICM"
