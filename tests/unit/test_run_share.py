from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esp_medsam.run_share import RunShare


NAMES = st.text(min_size=1, max_size=20)


class TestShares:
    @given(folder=NAMES, name=NAMES, count=st.integers(1, 50))
    def test_each_item_is_in_exactly_one(self, folder: str, name: str, count: int) -> None:
        shares = [RunShare(number, count) for number in range(1, count + 1)]

        assert sum(share.has(folder, name) for share in shares) == 1

    def test_have_about_as_many_items(self) -> None:
        items = [("a/b", f"scan{number}") for number in range(4000)]

        sizes = [sum(RunShare(number, 8).has(*item) for item in items) for number in range(1, 9)]

        assert min(sizes) > 420
        assert max(sizes) < 580

    def test_do_not_change(self) -> None:
        """Runs of today and tomorrow share an input out in the same way."""
        found = [name for name in "abcdefgh" if RunShare(1, 3).has("x/y", name)]

        assert found == ["c", "f", "g", "h"]

    @pytest.mark.parametrize("form", ["NFC", "NFD"])
    def test_do_not_depend_on_how_a_file_system_writes_names(self, form: str) -> None:
        name = unicodedata.normalize(form, "Schädel")

        assert [number for number in range(1, 10) if RunShare(number, 9).has("", name)] == [4]

    def test_take_names_that_are_no_text(self) -> None:
        assert RunShare(1, 1).has("", b"\xff".decode("utf-8", "surrogateescape"))


class TestText:
    def test_names_a_share(self) -> None:
        assert RunShare.of("3/8") == RunShare(3, 8)
        assert str(RunShare(3, 8)) == "3/8"

    @pytest.mark.parametrize("text", ["0/8", "9/8", "3", "3/", "a/b", "3/8/2", "-1/8", "1/9999999"])
    def test_that_names_none_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"must be i/N with 1 <= i <= N"):
            RunShare.of(text)
