from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esp_medsam.errors import (
    CorruptFileError,
    FormatError,
    GeometryError,
    NonFiniteError,
    ReadError,
)
from esp_medsam.io.nifti import read_nifti, write_nifti
from tests.support.nifti import save_nifti


Write = Callable[..., Path]


class TestAffine:
    def test_refuses_numbers_that_are_not_finite(
        self, patched: Write, volume: np.ndarray, write_volume: Write
    ) -> None:
        # pixdim[1], quatern_b, srow_x, each where it is used
        for offset, codes in ((80, (1, 0)), (256, (1, 0)), (280, (1, 1))):
            path = patched(write_volume(volume, name="a.nii"), offset, "<f", np.nan)
            patched(path, 252, "<hh", *codes)
            with pytest.raises(GeometryError, match=r"a\.nii must have .*affine"):
                read_nifti(path)

    @pytest.mark.parametrize("spacing", [0.0, -1.0, np.inf, np.nan])
    @pytest.mark.parametrize("codes", [(1, 0), (0, 0)])
    def test_refuses_a_spacing_that_is_none_where_it_is_used(
        self,
        patched: Write,
        volume: np.ndarray,
        write_volume: Write,
        spacing: float,
        codes: tuple[int, int],
    ) -> None:
        path = patched(write_volume(volume, name="a.nii"), 84, "<f", spacing)

        with pytest.raises(GeometryError, match="its spacing is"):
            read_nifti(patched(path, 252, "<hh", *codes))

    @pytest.mark.parametrize("code", [0, 1])
    @pytest.mark.parametrize(
        ("offset", "value"),
        [
            (76, np.nan), (76, 3.0), (80, -1.0), (84, 0.0), (84, -2.0), (88, np.inf), (88, np.nan),
            (256, np.nan), (256, 2.0), (260, 1.0000004), (268, np.inf), (272, np.nan),
        ],
    )  # fmt: skip
    def test_what_a_good_sform_does_not_use_refuses_nothing(
        self,
        patched: Write,
        tmp_path: Path,
        volume: np.ndarray,
        write_volume: Write,
        offset: int,
        value: float,
        code: int,
    ) -> None:
        affine = np.diag([-2.0, 2, 3, 1])
        path = patched(write_volume(volume, affine, "a.nii"), 252, "<hh", code, 1)

        content = read_nifti(patched(path, offset, "<f", value))

        np.testing.assert_array_equal(content.grid.affine, affine)
        is_used = code == 1 or 80 <= offset <= 88
        said = "pixdim" if 80 <= offset <= 88 else "The qform is broken"
        assert [w.startswith(said) for w in content.warnings] == ([True] if is_used else [])
        # The mask repeats what is stored, so that each reader reads the two alike.
        write_nifti(
            tmp_path / "m.nii", np.zeros((2, 3, 4), np.uint8), geometry=content.nifti_geometry
        )
        again = read_nifti(tmp_path / "m.nii")
        np.testing.assert_array_equal(again.grid.affine, affine)
        np.testing.assert_array_equal(
            again.nifti_geometry["pixdim"], content.nifti_geometry["pixdim"]
        )

    @pytest.mark.parametrize(("value", "said"), [(1.0000001, 0), (1.0000004, 1), (1.000004, 1)])
    def test_a_quaternion_that_rounding_made_too_long_is_shortened(
        self, patched: Write, volume: np.ndarray, write_volume: Write, value: float, said: int
    ) -> None:
        image = write_volume(volume, np.diag([-2.0, 2, -3, 1]), "a.nii")
        patched(image, 252, "<hh", 1, 0)

        content = read_nifti(patched(image, 256, "<3f", 0, value, 0))

        np.testing.assert_allclose(
            np.abs(content.grid.affine[:3, :3]), np.diag([2, 2, 3]), atol=1e-6
        )
        assert len(content.warnings) == said

    @pytest.mark.parametrize("value", [1.00001, 1.1])
    def test_a_longer_quaternion_is_refused_where_it_is_used(
        self, patched: Write, volume: np.ndarray, write_volume: Write, value: float
    ) -> None:
        path = patched(write_volume(volume, name="a.nii"), 252, "<hh", 1, 0)

        with pytest.raises(GeometryError, match="its qform is not: w2 should be positive"):
            read_nifti(patched(path, 256, "<f", value))

    def test_refuses_axes_of_no_length_and_of_one_direction(
        self, patched: Write, volume: np.ndarray, write_volume: Write
    ) -> None:
        path = patched(write_volume(volume, name="a.nii"), 280, "<12f", *[0.0] * 12)
        with pytest.raises(GeometryError, match="no length"):
            read_nifti(path)
        patched(path, 280, "<12f", 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0)
        with pytest.raises(GeometryError, match="singular"):
            read_nifti(path)

    def test_uses_the_sform_and_warns_where_the_qform_disagrees(
        self, volume: np.ndarray, tmp_path: Path
    ) -> None:
        image = nib.Nifti1Image(volume, None)
        image.set_sform(np.diag([2, 2, 2, 1]), 1)
        image.set_qform(np.diag([2, 2, 3, 1]), 1)
        nib.save(image, tmp_path / "a.nii")

        content = read_nifti(tmp_path / "a.nii")

        np.testing.assert_array_equal(content.grid.affine, np.diag([2, 2, 2, 1]))
        assert content.warnings == ("The qform and sform disagree; the sform was used.",)

    def test_falls_back_on_spacing_with_a_warning(self, volume: np.ndarray, tmp_path: Path) -> None:
        image = nib.Nifti1Image(volume, None)
        image.header["pixdim"][1:4] = 2, 3, 4
        nib.save(image, tmp_path / "a.nii")

        content = read_nifti(tmp_path / "a.nii")

        np.testing.assert_array_equal(content.grid.affine, nib.load(tmp_path / "a.nii").affine)
        assert "states no position" in content.warnings[0]

    def test_keeps_a_shear_exactly_and_warns(
        self, volume: np.ndarray, tmp_path: Path, write_volume: Write
    ) -> None:
        affine = np.eye(4)
        affine[0, 1] = 0.3

        content = read_nifti(write_volume(volume, affine))
        write_nifti(
            tmp_path / "m.nii.gz", np.zeros((2, 3, 4), np.uint8), geometry=content.nifti_geometry
        )

        assert "sheared" in content.warnings[0]
        np.testing.assert_array_equal(nib.load(tmp_path / "m.nii.gz").affine, content.grid.affine)

    def test_reads_a_handedness_of_zero_as_one(
        self, patched: Write, volume: np.ndarray, tmp_path: Path
    ) -> None:
        image = nib.Nifti1Image(volume, None)
        image.set_qform(np.diag([2, 2, 2, 1]), 1)
        nib.save(image, tmp_path / "a.nii")

        content = read_nifti(patched(tmp_path / "a.nii", 76, "<f", 0.0))

        np.testing.assert_array_equal(content.grid.affine, np.diag([2, 2, 2, 1]))

    def test_warns_of_lengths_in_other_units(self, volume: np.ndarray, tmp_path: Path) -> None:
        image = nib.Nifti1Image(volume, np.eye(4))
        image.header.set_xyzt_units("micron")
        nib.save(image, tmp_path / "a.nii")

        assert "micrometers" in read_nifti(tmp_path / "a.nii").warnings[0]


class TestShapes:
    @pytest.mark.parametrize(
        ("array", "found"),
        [
            (np.zeros((2, 3, 4, 5), np.int16), "one volume; got 2 x 3 x 4 x 5"),
            (np.zeros(7, np.int16), "got one axis of 7"),
            (np.zeros((2, 3, 4), np.complex64), "real numbers .*; got complex64"),
            (np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "got RGB"),
        ],
    )
    def test_refuses_what_is_not_one_gray_volume(
        self, write_volume: Write, array: np.ndarray, found: str
    ) -> None:
        with pytest.raises(FormatError, match=rf"volume\.nii\.gz must .*{found}"):
            read_nifti(write_volume(array))


class TestDamage:
    @pytest.mark.parametrize(
        ("offset", "form", "values", "found"),
        [
            (42, "<hhh", (0, 3, 4), r"dim \[3, 0, 3, 4"),
            (42, "<hhh", (2, -3, 4), r"dim \[3, 2, -3, 4"),
            (112, "<ff", (np.inf, 0), "slope inf"),
            (112, "<ff", (-np.inf, 0), "slope -inf"),
            (112, "<ff", (1, np.nan), r"slope 1\.0, intercept nan"),
            # Voxels inside the header.
            (108, "<f", (np.nan,), "vox_offset nan"),
            (108, "<f", (np.inf,), "vox_offset inf"),
            (108, "<f", (-5.0,), "vox_offset -5"),
            (108, "<f", (100.0,), "vox_offset 100"),
        ],
    )
    def test_refuses_numbers_that_make_no_volume(
        self,
        patched: Write,
        volume: np.ndarray,
        write_volume: Write,
        offset: int,
        form: str,
        values: tuple[float, ...],
        found: str,
    ) -> None:
        path = patched(write_volume(volume, name="a.nii"), offset, form, *values)

        with pytest.raises(CorruptFileError, match=rf"a\.nii must have .*{found}"):
            read_nifti(path)

    @pytest.mark.parametrize("intercept", [np.nan, 0.0, 5.0])
    def test_reads_a_slope_of_nan_as_not_scaled_and_says_so(
        self, patched: Write, volume: np.ndarray, write_volume: Write, intercept: float
    ) -> None:
        path = patched(write_volume(volume, name="a.nii"), 112, "<ff", np.nan, intercept)

        read = read_nifti(path)

        assert np.array_equal(read.pixels[0], volume)
        assert any("scl_slope" in warning for warning in read.warnings)

    @pytest.mark.parametrize("content", [b"x", b"text " * 200, b"\x1f\x8b", b"\x00" * 600])
    def test_refuses_what_is_not_nifti(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.nii"
        path.write_bytes(content)

        with pytest.raises(ReadError, match=r"a\.nii must"):
            read_nifti(path)

    def test_refuses_half_of_a_pair_and_analyze(
        self, patched: Write, volume: np.ndarray, write_volume: Write
    ) -> None:
        path = write_volume(volume, name="a.nii")
        with pytest.raises(FormatError, match=r"a\.nii must be one \.nii file"):
            read_nifti(patched(path, 344, "4s", b"ni1\0"))
        with pytest.raises(FormatError, match="Analyze"):
            read_nifti(patched(path, 344, "4s", b"\0\0\0\0"))

    @settings(
        max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_a_damaged_header_gives_an_image_or_one_of_our_errors(
        self, volume: np.ndarray, tmp_path: Path, data: st.DataObject
    ) -> None:
        path = tmp_path / "a.nii"
        save_nifti(path, volume, np.diag([2, 3, 4, 1]))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, 351))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)

        try:
            pixels = read_nifti(path).pixels
        except (ReadError, GeometryError, NonFiniteError):
            return
        assert pixels.ndim == 4
