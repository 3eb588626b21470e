from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from esp_medsam.errors import (
    CorruptFileError,
    FormatError,
    NonFiniteError,
    OptionError,
    TooLargeError,
)
from esp_medsam.io.itk_image import read_itk


Write = Callable[..., Path]


class TestGeometry:
    @pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
    def test_values_and_places_are_those_of_simpleitk(
        self, volume: np.ndarray, tmp_path: Path, suffix: str
    ) -> None:
        image = SimpleITK.GetImageFromArray(volume.T)
        turned = nib.eulerangles.euler2mat(0.2, -0.7, 1.1)
        image.SetDirection(turned.ravel())
        image.SetSpacing((0.7, 1.3, 4.1))
        image.SetOrigin((-123.4, 56.7, 8.9))
        path = tmp_path / f"a{suffix}"
        SimpleITK.WriteImage(image, str(path), useCompression=suffix in (".nrrd", ".mha"))

        content = read_itk(path)

        corner = np.array([1, 2, 3, 1.0])
        place = np.array(image.TransformIndexToPhysicalPoint((1, 2, 3))) * [-1, -1, 1]
        np.testing.assert_array_equal(content.pixels[0], volume)
        np.testing.assert_allclose((content.grid.affine @ corner)[:3], place, atol=1e-9)
        assert content.pixels.dtype == np.int16
        assert content.warnings == ()


class TestValues:
    @pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
    @pytest.mark.parametrize(
        ("stored", "held"),
        [
            ("u1", "u1"), ("i1", "i1"), ("i2", "i2"), ("u2", "u2"), ("i4", "i4"), ("u4", "i4"),
            ("i8", "i4"), ("u8", "i4"), ("f4", "f4"), ("f8", "f4"),
        ],
    )  # fmt: skip
    def test_keeps_the_numbers_of_every_type(
        self, tmp_path: Path, suffix: str, stored: str, held: str
    ) -> None:
        values = np.arange(24).reshape(2, 3, 4)
        image = SimpleITK.GetImageFromArray(values.T.astype(stored))
        SimpleITK.WriteImage(image, str(tmp_path / f"a{suffix}"))

        pixels = read_itk(tmp_path / f"a{suffix}").pixels

        assert pixels.dtype == np.dtype(held)
        np.testing.assert_array_equal(pixels[0], values)

    def test_large_integers_become_single_precision(
        self, volume: np.ndarray, write_mha: Write
    ) -> None:
        values = volume.astype(np.int64) << 40

        pixels = read_itk(write_mha(values)).pixels

        assert pixels.dtype == np.float32
        np.testing.assert_array_equal(pixels[0], values.astype(np.float32))

    def test_reads_big_endian(
        self, volume: np.ndarray, write_nrrd: Write, write_mha: Write
    ) -> None:
        swapped = volume.astype(">i2").tobytes(order="F")

        for path in (
            write_nrrd(data=swapped, endian="big"),
            write_mha(data=swapped, BinaryDataByteOrderMSB="True"),
        ):
            np.testing.assert_array_equal(read_itk(path).pixels[0], volume)

    def test_reads_gzip_zlib_and_text(
        self, volume: np.ndarray, write_nrrd: Write, write_mha: Write
    ) -> None:
        raw = volume.tobytes(order="F")
        text = " ".join(map(str, volume.ravel(order="F"))).encode()
        packed = zlib.compress(raw)

        for path in (
            write_nrrd(data=gzip.compress(raw), encoding="gzip"),
            write_nrrd(data=text, encoding="ascii"),
            write_mha(data=packed, CompressedData="True", CompressedDataSize=str(len(packed))),
        ):
            np.testing.assert_array_equal(read_itk(path).pixels[0], volume)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_refuses_voxels_that_are_not_finite(
        self, volume: np.ndarray, write_nrrd: Write, value: float
    ) -> None:
        values = volume.astype(np.float32)
        values[1, 2, 3] = value

        with pytest.raises(NonFiniteError, match="NaN or infinite voxels"):
            read_itk(write_nrrd(values))


class TestShapes:
    def test_one_volume_of_a_fourth_axis(
        self, series: np.ndarray, stated_affine: np.ndarray, write_mha: Write
    ) -> None:
        content = read_itk(write_mha(series), frame=3)

        np.testing.assert_array_equal(content.pixels[0], series[..., 3])
        np.testing.assert_array_equal(content.grid.affine, stated_affine)
        assert content.warnings == (
            "The file holds 5 volumes; number 3, counted from 0, was read.",
        )

    def test_drops_an_axis_of_one(
        self, volume: np.ndarray, write_nrrd: Write, write_mha: Write
    ) -> None:
        listed = {
            "kinds": "space space space list",
            "space_directions": "(1,0,0) (0,2,0) (0,0,3) none",
        }

        for path in (write_nrrd(volume[..., None], **listed), write_mha(volume[..., None])):
            content = read_itk(path, frame=7)
            np.testing.assert_array_equal(content.pixels[0], volume)
            assert content.file_shape is None

    def test_several_volumes_need_a_choice_that_exists(
        self, series: np.ndarray, write_mha: Write
    ) -> None:
        path = write_mha(series)

        with pytest.raises(FormatError, match=r"got 2 x 3 x 4 x 5 .* with `frame`, from 0 to 4"):
            read_itk(path)
        for frame in (-1, 5):
            with pytest.raises(OptionError, match=rf"in 0\.\.4 for .*a\.mha; got {frame}"):
                read_itk(path, frame)


class TestDamage:
    def test_refuses_compressed_data_that_hold_less_than_claimed(self, write_mha: Write) -> None:
        short = zlib.compress(bytes(10))
        fields = {"CompressedData": "True", "CompressedDataSize": str(len(short))}

        with pytest.raises(CorruptFileError, match="cut short"):
            read_itk(write_mha(data=short, **fields))

    def test_refuses_a_wrong_checksum(self, volume: np.ndarray, write_nrrd: Write) -> None:
        content = bytearray(gzip.compress(volume.tobytes(order="F")))
        content[-6] ^= 1

        with pytest.raises(CorruptFileError, match="whole compressed data"):
            read_itk(write_nrrd(data=bytes(content), encoding="gzip"))

    @pytest.mark.parametrize("name", ["nrrd", "gzip", "mha"])
    def test_refuses_numbers_that_itk_finds_elsewhere(
        self,
        volume: np.ndarray,
        write_nrrd: Write,
        write_mha: Write,
        name: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        packed = gzip.compress(volume.tobytes(order="F"))
        path = {
            "nrrd": write_nrrd(),
            "gzip": write_nrrd(data=packed, encoding="gzip"),
            "mha": write_mha(),
        }[name]
        found = SimpleITK.ReadImage(str(path)) + 1
        monkeypatch.setattr(SimpleITK, "ReadImage", lambda path: found)

        with pytest.raises(FormatError, match=r"ITK.*others"):
            read_itk(path)

    def test_says_that_bytes_were_passed_over(
        self, volume: np.ndarray, write_nrrd: Write, write_mha: Write
    ) -> None:
        more = volume.tobytes(order="F") + b"more"

        for path in (write_nrrd(data=more), write_mha(data=more)):
            content = read_itk(path)
            np.testing.assert_array_equal(content.pixels[0], volume)
            assert any("longer than its header says" in note for note in content.warnings)

    def test_refuses_a_header_that_claims_more_than_memory(
        self, write_nrrd: Write, write_mha: Write
    ) -> None:
        for path in (
            write_nrrd(sizes="99999 99999 99999"),
            write_nrrd(sizes="99999 99999 99999", encoding="gzip", data=gzip.compress(b"x")),
            write_mha(DimSize="99999 99999 99999", CompressedData="True", CompressedDataSize="9"),
        ):
            with pytest.raises(TooLargeError, match=r"must fit in memory.* GiB"):
                read_itk(path)

    def test_refuses_a_file_too_small_for_its_claim(
        self, write_nrrd: Write, write_mha: Write
    ) -> None:
        for path in (
            write_nrrd(sizes="700 700 700"),
            write_nrrd(sizes="700 700 700", encoding="gzip", data=gzip.compress(bytes(9))),
            write_nrrd(sizes="700 700 9", encoding="ascii"),
            write_mha(DimSize="700 700 700"),
            write_mha(CompressedData="True", CompressedDataSize=str(10**15)),
        ):
            with pytest.raises(CorruptFileError, match=r"voxels of 2 bytes; .* is cut short"):
                read_itk(path)
