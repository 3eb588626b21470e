from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.pixels import apply_modality_lut, apply_windowing
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from esp_medsam.dicom.values import narrowest, regions_of, rescale, wider_dtype, window_of
from esp_medsam.errors import NonFiniteError
from esp_medsam.image import UltrasoundRegion
from esp_medsam.quiet import quietly


STORED = np.array([[0, 1, 2], [1000, 4094, 4095]], dtype=np.uint16)


class TestRescale:
    def test_equals_pydicom(self, dicom: SimpleNamespace) -> None:
        dataset = dcmread(dicom.shipped("CT_small.dcm"))
        stored = dataset.pixel_array

        values = rescale(stored, float(dataset.RescaleSlope), float(dataset.RescaleIntercept),
                         source="a")  # fmt: skip

        np.testing.assert_array_equal(values, apply_modality_lut(stored, dataset))
        assert values.dtype == np.int16

    @pytest.mark.parametrize(
        ("slope", "intercept", "dtype"),
        [
            (1.0, 0.0, np.int16),
            (1.0, -1024.0, np.int16),
            (-1.0, 0.0, np.int16),
            (100.0, 0.0, np.int32),
            (1e9, 0.0, np.float32),
            (0.5, -1024.0, np.float32),
            (1.0, 0.5, np.float32),
            (1e19, 0.0, np.float32),
        ],
    )
    def test_whole_numbers_stay_whole_where_they_can(
        self, slope: float, intercept: float, dtype: type
    ) -> None:
        values = rescale(STORED, slope, intercept, source="a")

        assert values.dtype == dtype
        np.testing.assert_allclose(values, STORED.astype(float) * slope + intercept, rtol=1e-7)

    @given(
        stored=arrays(np.uint16, (2, 3)),
        slope=st.integers(-20, 20).filter(bool),
        intercept=st.integers(-5000, 5000),
    )
    def test_whole_numbers_are_exact(
        self, stored: npt.NDArray[np.uint16], slope: int, intercept: int
    ) -> None:
        values = rescale(stored, float(slope), float(intercept), source="a")

        assert values.dtype.kind == "i"
        np.testing.assert_array_equal(values, stored.astype(np.int64) * slope + intercept)

    def test_eight_bits_stay_eight_only_unchanged(self) -> None:
        stored = np.arange(6, dtype=np.uint8).reshape(2, 3)

        assert rescale(stored, 1.0, 0.0, source="a").dtype == np.uint8
        assert rescale(stored, 1.0, 1.0, source="a").dtype == np.int16
        assert rescale(stored.astype(np.uint16), 1.0, 0.0, source="a").dtype == np.int16

    @pytest.mark.parametrize(
        ("slope", "intercept"),
        [(np.inf, 0.0), (np.nan, 0.0), (0.0, 5.0), (1.0, np.nan), (1.0, -np.inf)],
    )
    def test_refuses_what_would_make_no_numbers(self, slope: float, intercept: float) -> None:
        with pytest.raises(NonFiniteError, match="a must have a finite Rescale Slope other than 0"):
            rescale(STORED, slope, intercept, source="a")

    @pytest.mark.parametrize("slope", [1e300, -1e38])
    def test_refuses_values_beyond_float32(self, slope: float) -> None:
        with pytest.raises(NonFiniteError, match="a must have values within float32"):
            rescale(STORED, slope, 0.0, source="a")


class TestTypes:
    @pytest.mark.parametrize(
        ("values", "dtype"),
        [
            (np.array([0, 255], np.uint8), np.uint8),
            (np.array([-1, 1], np.int8), np.int16),
            (np.array([0, 32767], np.uint16), np.int16),
            (np.array([0, 32768], np.uint16), np.int32),
            (np.array([0, 2**31], np.uint32), np.float32),
            (np.empty((0,), np.uint16), np.int16),
        ],
    )
    def test_are_the_narrowest_that_hold_the_values(
        self, values: npt.NDArray[np.generic], dtype: type
    ) -> None:
        assert narrowest(values).dtype == dtype
        np.testing.assert_array_equal(narrowest(values), values)

    def test_widen_to_what_holds_both(self) -> None:
        names = ["uint8", "int16", "int32", "float32"]
        for low, first in enumerate(names):
            for high, second in enumerate(names):
                assert wider_dtype(np.dtype(first), np.dtype(second)).name == names[max(low, high)]


def _windowed(center: object, width: object, function: str | None = None) -> Dataset:
    dataset = Dataset()
    dataset.WindowCenter = center
    dataset.WindowWidth = width
    if function:
        dataset.VOILUTFunction = function
    return dataset


class TestWindow:
    @pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT"])
    def test_ends_are_where_pydicom_shows_black_and_white(self, function: str) -> None:
        dataset = _windowed(40, 400, function)
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsStored, dataset.PixelRepresentation = 16, 1
        values = np.arange(-1000, 1000) / 2.0

        window, warnings = window_of(dataset)

        assert window is not None
        low, high = window
        shown = apply_windowing(values, dataset)
        expected = np.clip((values - low) / (high - low), 0, 1) * 65535 - 32768
        np.testing.assert_allclose(shown, expected, atol=1e-6)
        assert warnings == ()

    def test_formulas_are_those_of_the_standard(self) -> None:
        assert window_of(_windowed(2048, 4096))[0] == (0.0, 4095.0)
        assert window_of(_windowed(2048, 4096, "LINEAR_EXACT"))[0] == (0.0, 4096.0)

    def test_the_first_of_several_counts(self) -> None:
        assert window_of(_windowed([40, 300], [400, 1500]))[0] == (-160.0, 239.0)

    def test_a_sigmoid_is_replaced_with_a_warning(self) -> None:
        window, (warning,) = window_of(_windowed(100, 50, "SIGMOID"))

        assert window == (75.0, 125.0)
        assert "not linear" in warning

    @pytest.mark.parametrize("dataset", [Dataset(), _windowed(None, None), _windowed(40, None)])
    def test_no_window_is_none(self, dataset: Dataset) -> None:
        assert window_of(dataset) == (None, ())

    @pytest.mark.parametrize(
        ("center", "width"), [(40, 0), (40, -5), (40, 1), (float("inf"), 5), (40, float("nan"))]
    )
    def test_an_impossible_window_is_left_out_with_a_warning(
        self, center: float, width: float
    ) -> None:
        window, (warning,) = window_of(_windowed(center, width))

        assert window is None
        assert "window in the header was ignored" in warning

    @pytest.mark.parametrize("text", [b"1,5 ", b"1e999 ", b"abc ", b"\xff\xfe"])
    def test_what_is_no_number_is_left_out_with_a_warning(self, text: bytes) -> None:
        dataset = _windowed(40, 400)
        tag = Tag("WindowWidth")
        dataset[tag] = RawDataElement(tag, "DS", len(text), text, 0, False, True)

        with quietly():
            window, warnings = window_of(dataset)

        assert window is None
        assert "window in the header was ignored" in warnings[0]

    def test_functional_groups_may_hold_it(self) -> None:
        groups = Dataset()
        groups.FrameVOILUTSequence = Sequence([_windowed(40, 401)])
        dataset = Dataset()
        dataset.SharedFunctionalGroupsSequence = Sequence([groups])

        assert window_of(dataset)[0] == (-160.5, 239.5)


def _region(**values: object) -> Dataset:
    region = Dataset()
    defaults = {
        "RegionLocationMinX0": 2, "RegionLocationMinY0": 1, "RegionLocationMaxX1": 7,
        "RegionLocationMaxY1": 4, "RegionDataType": 1, "RegionSpatialFormat": 1,
    }  # fmt: skip
    for keyword, value in {**defaults, **values}.items():
        if value is not None:
            setattr(region, keyword, value)
    return region


class TestRegions:
    def test_are_rows_and_columns_with_their_ends(self) -> None:
        dataset = Dataset()
        dataset.SequenceOfUltrasoundRegions = Sequence([_region(RegionDataType=3)])

        (region,), warnings = regions_of(dataset, 10, 20)

        assert region == UltrasoundRegion(
            rows=(1, 4), columns=(2, 7), data_type=3, spatial_format=1
        )
        assert warnings == ()

    def test_are_cut_to_the_image(self) -> None:
        dataset = Dataset()
        dataset.SequenceOfUltrasoundRegions = Sequence([_region(RegionLocationMaxX1=800)])

        (region,), _ = regions_of(dataset, 10, 20)

        assert region.columns == (2, 19)

    @pytest.mark.parametrize(
        "change",
        [
            {"RegionLocationMinX0": 20},
            {"RegionLocationMinY0": 5},
            {"RegionLocationMinX0": None},
            {"RegionDataType": None},
        ],
    )
    def test_what_is_no_region_of_the_image_is_left_out(self, change: dict[str, object]) -> None:
        dataset = Dataset()
        dataset.SequenceOfUltrasoundRegions = Sequence([_region(**change), _region()])

        regions, (warning,) = regions_of(dataset, 10, 20)

        assert len(regions) == 1
        assert "outside its image: 1" in warning

    def test_none_are_stated(self) -> None:
        assert regions_of(Dataset(), 10, 20) == ((), ())
