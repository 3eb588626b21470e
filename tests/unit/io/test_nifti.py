from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from esp_medsam.errors import (
    CorruptFileError,
    FormatError,
    NonFiniteError,
    OptionError,
    TooLargeError,
)
from esp_medsam.io.nifti import read_nifti, write_nifti


Write = Callable[..., Path]


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Affines of any orientation, oblique or not, left- or right-handed."""
    codes = "".join(
        draw(st.permutations([draw(st.sampled_from(pair)) for pair in ("LR", "PA", "IS")]))
    )
    spacing = [draw(st.floats(0.1, 9)) for _ in range(3)]
    angles = [draw(st.sampled_from([0.0, 0.0, 0.2, -0.7])) for _ in range(3)]
    rotation = nib.eulerangles.euler2mat(*angles)
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(spacing)
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    shape = (2, 3, 4)
    return affine @ inv_ornt_aff(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes)), shape)


class TestGeometryRoundTrip:
    @settings(
        max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(affine=affines(), second=st.booleans(), codes=st.sampled_from([(0, 1), (1, 0), (2, 2)]))
    def test_a_mask_has_shape_affine_and_orientation_of_its_image(
        self,
        volume: np.ndarray,
        tmp_path: Path,
        affine: np.ndarray,
        second: bool,
        codes: tuple[int, int],
    ) -> None:
        image = (nib.Nifti2Image if second else nib.Nifti1Image)(volume, affine)
        image.set_qform(affine, codes[0])
        image.set_sform(affine, codes[1])
        source, mask = tmp_path / "image.nii", tmp_path / "mask.nii.gz"
        nib.save(image, source)
        loaded = nib.load(source)

        content = read_nifti(source)
        write_nifti(mask, (content.pixels[0] > 3).astype(np.uint8), geometry=content.nifti_geometry)
        written = nib.load(mask)

        np.testing.assert_array_equal(content.grid.affine, loaded.affine)
        np.testing.assert_array_equal(written.affine, loaded.affine)
        np.testing.assert_allclose(written.affine, affine, atol=1e-3)
        assert written.shape == volume.shape
        assert nib.aff2axcodes(written.affine) == nib.aff2axcodes(loaded.affine)
        for field in ("qform_code", "sform_code", "quatern_b", "qoffset_z", "srow_x"):
            np.testing.assert_array_equal(written.header[field], loaded.header[field])
        np.testing.assert_array_equal(np.asarray(written.dataobj), volume > 3)
        assert type(written) is type(loaded)


class TestValues:
    @pytest.mark.parametrize(
        ("stored", "held"),
        [
            ("u1", "u1"), ("i1", "i1"), ("i2", "i2"), ("u2", "u2"), ("i4", "i4"), ("u4", "i4"),
            ("i8", "i4"), ("u8", "i4"), ("f4", "f4"), ("f8", "f4"), (">i2", "i2"), (">f8", "f4"),
        ],
    )  # fmt: skip
    def test_keeps_the_numbers_of_every_type(self, tmp_path: Path, stored: str, held: str) -> None:
        values = np.arange(24).reshape(2, 3, 4)
        order = ">" if stored.startswith(">") else "<"
        header = nib.Nifti1Header(endianness=order)
        image = nib.Nifti1Image(values.astype(stored), np.eye(4), header, dtype=np.dtype(stored))
        nib.save(image, tmp_path / "a.nii")

        pixels = read_nifti(tmp_path / "a.nii").pixels

        assert pixels.dtype == np.dtype(held)
        assert pixels.dtype.isnative
        np.testing.assert_array_equal(pixels[0], values)

    def test_applies_slope_and_intercept_in_single_precision(
        self, volume: np.ndarray, tmp_path: Path
    ) -> None:
        image = nib.Nifti1Image(volume, np.eye(4))
        image.header.set_slope_inter(0.5, -1024)
        nib.save(image, tmp_path / "a.nii")

        pixels = read_nifti(tmp_path / "a.nii").pixels

        assert pixels.dtype == np.float32
        np.testing.assert_array_equal(pixels[0], volume * 0.5 - 1024)

    def test_a_slope_of_zero_means_unscaled(
        self, patched: Write, volume: np.ndarray, write_volume: Write
    ) -> None:
        path = patched(write_volume(volume, name="a.nii"), 112, "<ff", 0.0, 7.0)

        np.testing.assert_array_equal(read_nifti(path).pixels[0], volume)

    def test_large_integers_become_single_precision(
        self, volume: np.ndarray, write_volume: Write
    ) -> None:
        values = volume.astype(np.uint32)
        values[-1] = 2**32 - 1

        pixels = read_nifti(write_volume(values)).pixels

        assert pixels.dtype == np.float32
        np.testing.assert_array_equal(pixels[0], values.astype(np.float32))

    def test_reads_more_than_one_piece(self, write_volume: Write) -> None:
        values = np.arange(34 * 32_000, dtype=np.int32).reshape(34, -1, 1)

        np.testing.assert_array_equal(read_nifti(write_volume(values)).pixels[0], values)


class TestShapes:
    def test_a_2d_file_is_a_stack_of_one_slice_that_keeps_its_shape(
        self, volume: np.ndarray, write_volume: Write
    ) -> None:
        content = read_nifti(write_volume(volume[..., 0]))

        assert content.pixels.shape == (1, 2, 3, 1)
        assert content.file_shape == (2, 3)

    def test_drops_trailing_axes_of_one(self, volume: np.ndarray, write_volume: Write) -> None:
        content = read_nifti(write_volume(volume[..., None, None]))

        assert content.pixels.shape == (1, 2, 3, 4)
        assert content.file_shape is None


class TestFrames:
    SERIES = np.arange(8 * 9 * 10 * 6, dtype=np.int16).reshape(8, 9, 10, 6)

    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    def test_reads_the_chosen_volume(
        self, tmp_path: Path, kind: Any, order: str, name: str
    ) -> None:
        header = kind.header_class(endianness=order)
        image = kind(self.SERIES, np.diag([2, 3, 4, 1]), header)
        image.header.set_slope_inter(0.5, -7)
        nib.save(image, tmp_path / name)

        for frame in (0, 4, 5):
            content = read_nifti(tmp_path / name, frame)

            np.testing.assert_array_equal(
                content.pixels[0], nib.load(tmp_path / name).get_fdata()[..., frame]
            )
            assert content.warnings == (
                f"The file holds 6 volumes; number {frame}, counted from 0, was read.",
            )
            assert content.file_shape is None

    def test_counts_the_volumes_of_several_axes_as_stored(self, write_volume: Write) -> None:
        array = self.SERIES.reshape(8, 9, 10, 1, 3, 2)

        content = read_nifti(write_volume(array), frame=4)

        np.testing.assert_array_equal(content.pixels[0], array[:, :, :, 0, 1, 1])

    def test_a_choice_has_no_effect_on_one_volume(
        self, volume: np.ndarray, write_volume: Write
    ) -> None:
        content = read_nifti(write_volume(volume[..., None]), frame=9)

        np.testing.assert_array_equal(content.pixels[0], volume)
        assert content.warnings == ()

    def test_refuses_a_choice_that_does_not_exist(self, write_volume: Write) -> None:
        path = write_volume(self.SERIES)

        with pytest.raises(FormatError, match="Choose one with `frame`, from 0 to 5"):
            read_nifti(path)
        for frame in (-1, 6):
            with pytest.raises(OptionError, match=rf"in 0\.\.5 for .*; got {frame}"):
                read_nifti(path, frame)

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    def test_refuses_a_file_cut_short_behind_the_chosen_volume(
        self, write_volume: Write, name: str
    ) -> None:
        path = write_volume(self.SERIES, name=name)
        path.write_bytes(path.read_bytes()[:-100])

        with pytest.raises(CorruptFileError, match=f"{name} must"):
            read_nifti(path, frame=0)


class TestDamage:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
    def test_refuses_voxels_that_are_not_finite(
        self, volume: np.ndarray, write_volume: Write, value: float
    ) -> None:
        values = volume.astype(np.float64)
        values[1, 2, 3] = value

        with pytest.raises(NonFiniteError, match=r"\.nii(\.gz)? must hold finite numbers"):
            read_nifti(write_volume(values))

    def test_refuses_voxels_that_scaling_makes_infinite(
        self, patched: Write, volume: np.ndarray, write_volume: Write
    ) -> None:
        path = write_volume(volume.astype(np.float64) * 1e300, name="a.nii")

        with pytest.raises(NonFiniteError, match=r"\.nii(\.gz)? must hold finite numbers"):
            read_nifti(patched(path, 112, "<ff", 1e30, 0.0))

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    def test_refuses_every_truncation(
        self, volume: np.ndarray, write_volume: Write, name: str
    ) -> None:
        path = write_volume(volume, name=name)
        whole = path.read_bytes()

        for end in range(1, len(whole)):
            path.write_bytes(whole[:end])
            with pytest.raises((CorruptFileError, FormatError)):
                read_nifti(path)

    def test_refuses_a_wrong_checksum(self, volume: np.ndarray, write_volume: Write) -> None:
        path = write_volume(volume)
        content = bytearray(path.read_bytes())
        content[-6] ^= 1
        path.write_bytes(content)

        with pytest.raises(CorruptFileError, match=r"volume\.nii\.gz must be"):
            read_nifti(path)

    def test_says_that_bytes_were_passed_over(
        self, volume: np.ndarray, write_volume: Write
    ) -> None:
        path = write_volume(volume, name="a.nii")
        path.write_bytes(path.read_bytes() + b"more")

        assert any("longer than its header says" in note for note in read_nifti(path).warnings)

    @pytest.mark.parametrize("compress", [False, True])
    def test_refuses_a_header_that_claims_more_than_memory(
        self, patched: Write, volume: np.ndarray, write_volume: Write, compress: bool
    ) -> None:
        path = patched(write_volume(volume, name="a.nii"), 42, "<hhh", 32767, 32767, 32767)
        if compress:
            path.write_bytes(gzip.compress(path.read_bytes()))

        with pytest.raises(TooLargeError, match=r"must fit in memory.* GiB"):
            read_nifti(path)

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    @pytest.mark.parametrize("second", [False, True])
    def test_n7_refuses_voxels_beyond_any_header(
        self,
        volume: np.ndarray,
        tmp_path: Path,
        bounded: Callable[..., Any],
        name: str,
        second: bool,
    ) -> None:
        """Gzip makes three gigabytes before them of a file of three megabytes."""
        image = (nib.Nifti2Image if second else nib.Nifti1Image)(volume, np.eye(4))
        image.header.set_slope_inter(1, 0)
        image.header["vox_offset"] = 3e9
        content = bytes(image.header.binaryblock) + bytes(2**22)
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)

        with pytest.raises(CorruptFileError, match=r"at byte 67,108,864 at most; got .* 3e\+09"):
            bounded(read_nifti, tmp_path / name)

    def test_n7_passes_over_a_bomb_behind_the_voxels(
        self, volume: np.ndarray, write_volume: Write, bounded: Callable[..., Any]
    ) -> None:
        path = write_volume(volume)
        path.write_bytes(path.read_bytes() + gzip.compress(bytes(10**9), 1))

        content = bounded(read_nifti, path)

        np.testing.assert_array_equal(content.pixels[0], volume)
        assert "longer than its header says" in content.warnings[-1]

    def test_n8_refuses_dimensions_that_overflow(
        self, tmp_path: Path, bounded: Callable[..., Any]
    ) -> None:
        header = nib.Nifti1Header()
        header["dim"] = [7, *[32767] * 7]
        header["magic"] = b"n+1"
        header["pixdim"][1:4] = 1
        (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(999))

        with pytest.raises(TooLargeError, match=r"at most 65,536 volumes; got 1,152,780,773,560"):
            bounded(read_nifti, tmp_path / "a.nii", 0)

    def test_says_of_a_pipe_what_it_is(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.nii")

        with pytest.raises(OSError, match="it is a pipe, not a file"):
            read_nifti(tmp_path / "a.nii")

    def test_refuses_a_gzip_file_too_small_for_its_claim_before_reading(
        self, patched: Write, volume: np.ndarray, write_volume: Write
    ) -> None:
        path = patched(write_volume(volume, name="a.nii"), 42, "<hhh", 700, 700, 700)
        path.write_bytes(gzip.compress(path.read_bytes()))

        with pytest.raises(CorruptFileError, match="700 x 700 x 700 voxels of 2 bytes; it is cut"):
            read_nifti(path)


class TestWriteNifti:
    def test_same_content_makes_the_same_bytes(self, volume: np.ndarray, tmp_path: Path) -> None:
        for name in ("a.nii.gz", "b.nii.gz"):
            write_nifti(tmp_path / name, volume.astype(np.uint8), geometry=None)

        first, second = ((tmp_path / name).read_bytes() for name in ("a.nii.gz", "b.nii.gz"))
        assert first == second
        assert first[4:8] == bytes(4)  # gzip's time, which two runs of a second share

    def test_states_no_position_without_geometry(self, volume: np.ndarray, tmp_path: Path) -> None:
        write_nifti(tmp_path / "a.nii", volume.astype(np.uint8), geometry=None)
        header = nib.load(tmp_path / "a.nii").header

        assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 0)

    def test_stores_what_it_is_given_under_a_slope(self, tmp_path: Path) -> None:
        values = np.array([[[0, 51, 255]]], np.uint8)

        write_nifti(tmp_path / "a.nii", values, geometry=None, slope=1 / 255)
        image = nib.load(tmp_path / "a.nii")

        np.testing.assert_array_equal(image.dataobj.get_unscaled(), values)
        np.testing.assert_allclose(image.get_fdata(), values / 255, atol=1e-6)
