from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esp_medsam.io.inflate import DAMAGE, GZIP_OR_ZLIB, Inflated


def read_all(stream: Inflated, size: int = 2**16) -> bytes:
    return b"".join(iter(lambda: stream.read(size), b""))


@pytest.fixture
def content() -> bytes:
    """100 kB of which half is noise."""
    return np.random.default_rng(0).bytes(50_000) + bytes(50_000)


class TestInflated:
    @given(data=st.binary(max_size=300), level=st.integers(0, 9), size=st.integers(1, 400))
    def test_gives_back_what_was_packed(self, data: bytes, level: int, size: int) -> None:
        assert read_all(Inflated(io.BytesIO(gzip.compress(data, level))), size) == data

    @pytest.mark.parametrize("size", [1000, 2**20])
    def test_goes_on_through_members_and_zeros(self, content: bytes, size: int) -> None:
        packed = gzip.compress(content) + bytes(70_000) + gzip.compress(b"") + gzip.compress(b"end")

        assert read_all(Inflated(io.BytesIO(packed + bytes(9))), size) == content + b"end"

    @pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
    def test_takes_either_kind_and_no_more_than_is_data(
        self, content: bytes, pack: Callable[[bytes], bytes]
    ) -> None:
        packed = pack(content)
        file = io.BytesIO(packed + b"something else")

        assert read_all(Inflated(file, GZIP_OR_ZLIB, len(packed))) == content

    def test_reads_as_much_as_is_asked_for_and_counts_the_rest(self, content: bytes) -> None:
        packed = gzip.compress(content[:60_000]) + gzip.compress(content[60_000:])
        stream = Inflated(io.BytesIO(packed))

        assert stream.read(70_000) == content[:70_000]
        assert stream.read_rest(2**20) == 30_000
        assert stream.read(1) == b""

    def test_refuses_every_cut(self, content: bytes) -> None:
        packed = gzip.compress(content)
        for end in range(0, len(packed), 997):
            with pytest.raises(EOFError):
                read_all(Inflated(io.BytesIO(packed[:end])))

    @pytest.mark.parametrize("place", [0, 60_000, -1, -5])
    def test_refuses_damage_and_wrong_checksums(self, content: bytes, place: int) -> None:
        packed = bytearray(gzip.compress(content, 1))
        packed[min(place, len(packed) - 9)] ^= 1

        with pytest.raises(DAMAGE):
            read_all(Inflated(io.BytesIO(packed)))

    def test_refuses_what_follows_and_is_no_member(self, content: bytes) -> None:
        with pytest.raises(zlib.error, match="incorrect header"):
            read_all(Inflated(io.BytesIO(gzip.compress(content) + b"more")))

    def test_stops_where_members_are_too_many(self, bounded: Callable[..., Any]) -> None:
        with pytest.raises(zlib.error, match="more than 131072 members"):
            bounded(read_all, Inflated(io.BytesIO(gzip.compress(b"") * 10**6)))

    def test_passes_over_a_long_name_at_once(
        self, content: bytes, bounded: Callable[..., Any]
    ) -> None:
        named = b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 10**8 + b"\0" + gzip.compress(content)[10:]

        assert bounded(read_all, Inflated(io.BytesIO(named))) == content
