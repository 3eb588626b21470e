from __future__ import annotations

import pytest
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, MRImageStorage

from esp_medsam.dicom.units import against_hu, is_hu, unit_text


UNKNOWN = "05703841015643452503209109170649121759226008273168"


class TestIsHu:
    @pytest.mark.parametrize(
        "text",
        [
            "HU", "hu", "Hu", "H.U.", "Hounsfield", "Hounsfield Unit", "Hounsfield Units",
            "HOUNSFIELD UNITS", "hounsfield_units", "Hounsfield-Unit", "HounsfieldUnits",
            "Hounsfield  Units", "Hounsfield Units (HU)", "Hounsfield Unit(s)", "CT Hounsfield",
            "Hounsfield scale",
        ],
    )  # fmt: skip
    def test_what_writers_put_for_it_is_it(self, text: str) -> None:
        assert is_hu(text)

    @pytest.mark.parametrize(
        "text",
        [
            "", "US", "OD", "HU_MOD", "Z_EFF", "ED", "MGML", "PCT", "HU/10", "HUx10",
            "Modified Hounsfield Units", "Hounsfield/10", "Huber", "no HU", "HU HU",
        ],
    )  # fmt: skip
    def test_all_else_is_not(self, text: str) -> None:
        assert not is_hu(text)


class TestUnitTold:
    @pytest.mark.parametrize("unit", ["US", "OD", "Z_EFF", "HU_MOD", "PCT", "g/ml", "%", "BQML"])
    def test_codes_are(self, unit: str) -> None:
        assert unit_text(unit) == unit

    @pytest.mark.parametrize(
        "text", ["Doe^Jane", "Doe", "unspecified", "JANE_DOE_1950", "1950-01-31", "J\u00fcrgen"]
    )
    def test_text_is_not(self, text: str) -> None:
        assert unit_text(text) == f"text of {len(text)} characters"


class TestAgainstHu:
    @pytest.mark.parametrize("said", [{"HU"}, {""}, {"HU", ""}])
    @pytest.mark.parametrize("kind", [CTImageStorage, EnhancedCTImageStorage])
    def test_ct_that_states_nothing_else_is_in_hu(self, kind: str, said: set[str]) -> None:
        assert against_hu(said, kind) == ()

    def test_one_slice_in_another_unit_is_enough(self) -> None:
        assert against_hu({"HU", "Rescale Type says US"}, CTImageStorage) == (
            "Rescale Type says US",
        )

    @pytest.mark.parametrize("kind", [UNKNOWN, "1.2.3", ""])
    def test_of_a_class_of_no_modality_all_must_say_it(self, kind: str) -> None:
        assert against_hu({"HU"}, kind) == ()
        assert "not a CT class" in against_hu({""}, kind)[0]
        assert "not a CT class" in against_hu({"HU", ""}, kind)[0]
        assert against_hu({"HU", "x"}, kind) == ("x",)

    def test_a_class_of_another_modality_speaks_against_it(self) -> None:
        assert against_hu({"HU"}, MRImageStorage) == ("its SOP class stands for MR",)
