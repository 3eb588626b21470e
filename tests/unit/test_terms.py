from __future__ import annotations

from esp_medsam.terms import find_terms


class TestFindTerms:
    def test_the_name_itself_comes_first(self) -> None:
        first, *_ = find_terms("liver")

        assert (first.code.value, first.code.scheme, first.code.meaning) == (
            "10200004",
            "SCT",
            "Liver",
        )
        assert first.uses == ("type", "anatomic_region")

    def test_each_word_begins_a_word_of_the_meaning_in_any_order_and_case(self) -> None:
        found = [term.code.meaning for term in find_terms("STRUCTURE abnorm")]

        assert "Morphologically Abnormal Structure" in found
        assert not any("Deliver" in term.code.meaning for term in find_terms("liver"))

    def test_categories_say_so(self) -> None:
        (category,) = (
            term for term in find_terms("anatomical structure") if "category" in term.uses
        )

        assert category.code.value == "91723000"

    def test_meanings_are_no_longer_than_dicom_allows(self) -> None:
        assert all(len(term.code.meaning) <= 64 for term in find_terms("structure of"))

    def test_nothing_is_found_of_nothing(self) -> None:
        assert find_terms("") == find_terms("xyzzy") == []
