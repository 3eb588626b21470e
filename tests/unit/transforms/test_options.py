from __future__ import annotations

import pytest

from esp_medsam import transforms
from esp_medsam.errors import OptionError
from esp_medsam.transforms.options import number_option, percentiles_option


class TestNumber:
    def test_is_what_was_given(self) -> None:
        assert number_option("a", 3, least=3, most=3) == 3.0
        assert number_option("a", "0.5", above=0, below=1) == 0.5

    @pytest.mark.parametrize("value", ["much", None, float("nan"), float("inf"), -1.0, 2.0, [1]])
    def test_refuses_what_is_none_or_outside(self, value: object) -> None:
        with pytest.raises(OptionError, match="gain must be at least 0 and at most 1; got"):
            number_option("gain", value, least=0.0, most=1.0)

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_refuses_ends_that_do_not_belong(self, value: float) -> None:
        with pytest.raises(OptionError, match="gain must be above 0 and below 1"):
            number_option("gain", value, above=0.0, below=1.0)

    def test_without_limits_is_finite(self) -> None:
        with pytest.raises(OptionError, match="air must be a finite number; got -inf"):
            number_option("air", float("-inf"))


class TestPercentilesOption:
    @pytest.mark.parametrize("pair", [(5, 5), (-1, 50), (0, 101), (1, 2, 3), 7, ("low", "high")])
    def test_refuses_what_does_not_ascend(self, pair: object) -> None:
        with pytest.raises(OptionError, match="percentiles must ascend within 0 to 100"):
            percentiles_option("percentiles", pair)


class TestOptionsOfTransforms:
    @pytest.mark.parametrize(
        ("name", "option", "value"),
        [
            ("ClipMetal", "highest", float("inf")),
            ("CropBlackBorder", "step", -0.1),
            ("CropCollimation", "uniform", 0.0),
            ("CropToScan", "step", 2.0),
            ("MaskBurnedIn", "contrast", 0.0),
            ("MeasureBody", "margin", -1.0),
            ("MeasureWindow", "percentiles", (9.0, 1.0)),
            ("NormalizeGain", "limit", 0.5),
            ("NormalizeStain", "tolerance", 200.0),
            ("PaddingToAir", "air", "none"),
            ("ReduceSpeckle", "edge", 0.0),
            ("RemoveHair", "threshold", 0.0),
            ("SuppressDoppler", "chroma", -1.0),
            ("SuppressSpecular", "largest", 1.1),
            ("TableRemoval", "threshold", float("nan")),
            ("Windows", "windows", [("a", "b")]),
        ],
    )
    def test_are_refused_when_given_in_one_line(
        self, name: str, option: str, value: object
    ) -> None:
        with pytest.raises(OptionError, match=f"^{option} must .*; got .*[.]$"):
            getattr(transforms, name)(**{option: value})
