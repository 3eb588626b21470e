from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from esp_medsam.errors import CorruptFileError, FormatError, GeometryError
from esp_medsam.io.itk_image import read_itk


Write = Callable[..., Path]


class TestGeometry:
    def test_each_row_of_a_matrix_is_the_direction_of_an_axis(self, write_mha: Write) -> None:
        content = read_itk(write_mha(TransformMatrix="0 1 0 -1 0 0 0 0 1"))

        expected = [[0, 2, 0, -10], [-1, 0, 0, -20], [0, 0, 3, 30]]
        np.testing.assert_array_equal(content.grid.affine[:3], expected)

    @pytest.mark.parametrize(
        ("fields", "found"),
        [
            ({"ElementSpacing": None}, "ElementSpacing"),
            ({"ElementSpacing": "1 0 3"}, "no length"),
            ({"ElementSpacing": "1 1e999 3"}, "finite numbers"),
            ({"Offset": "1,5 2 3"}, "finite numbers"),
            ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "singular"),
            ({"TransformMatrix": "1 0 0 1"}, "9 finite numbers"),
        ],
    )
    def test_refuses_unusable_directions(
        self, write_mha: Write, fields: dict[str, str | None], found: str
    ) -> None:
        with pytest.raises(GeometryError, match=rf"a\.mha must .*{found}"):
            read_itk(write_mha(**fields))


class TestValues:
    def test_long_numbers_have_4_bytes_or_are_refused(
        self, volume: np.ndarray, write_mha: Write
    ) -> None:
        four = write_mha(data=volume.astype("<i4").tobytes(order="F"), ElementType="MET_LONG")
        eight = write_mha(data=volume.astype("<i8").tobytes(order="F"), ElementType="MET_LONG")

        np.testing.assert_array_equal(read_itk(four).pixels[0], volume)
        with pytest.raises(FormatError, match="room for 8"):
            read_itk(eight)

    @pytest.mark.parametrize(
        ("fields", "found"),
        [
            ({"BinaryData": "False"}, "binary numbers"),
            ({"ElementType": "MET_STRING"}, "real numbers"),
            ({"ElementToIntensityFunctionSlope": "2"}, "does not apply"),
        ],
    )
    def test_refuses_what_itk_does_not_read(
        self, write_mha: Write, fields: dict[str, str], found: str
    ) -> None:
        with pytest.raises(FormatError, match=found):
            read_itk(write_mha(**fields))


class TestShapes:
    @pytest.mark.parametrize("dtype", ["i2", "f4", "i8", "u1"])
    def test_channels_are_volumes(self, series: np.ndarray, write_mha: Write, dtype: str) -> None:
        channels = np.ascontiguousarray(np.moveaxis(series, -1, 0)).astype(dtype)

        content = read_itk(write_mha(channels, channels=5), frame=3)

        np.testing.assert_array_equal(content.pixels[0], series[..., 3])

    def test_a_2d_image_is_a_stack_of_one_slice(
        self, volume: np.ndarray, stated_affine: np.ndarray, write_mha: Write
    ) -> None:
        content = read_itk(write_mha(volume[..., 1]))

        np.testing.assert_array_equal(content.pixels[0, ..., 0], volume[..., 1])
        np.testing.assert_array_equal(content.grid.affine[:2], stated_affine[:2])
        np.testing.assert_array_equal(content.grid.affine[2], [0, 0, 1, 0])
        assert content.file_shape == (2, 3)


class TestFiles:
    def test_refuses_an_ending_in_capitals_that_itk_does_not_know(self, write_mha: Write) -> None:
        path = write_mha()
        path = path.rename(path.with_name("A.MHA"))

        with pytest.raises(FormatError, match="small letters"):
            read_itk(path)

    def test_refuses_compressed_data_of_unknown_size(
        self, volume: np.ndarray, write_mha: Write
    ) -> None:
        with pytest.raises(CorruptFileError, match="CompressedDataSize"):
            read_itk(write_mha(data=zlib.compress(volume.tobytes()), CompressedData="True"))
