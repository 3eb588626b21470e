from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import skimage

from esp_medsam.errors import (
    CorruptFileError,
    EmptyInputError,
    FormatError,
    InputNotFoundError,
    ModalityError,
    OptionError,
    ReadError,
)
from esp_medsam.io import is_image, name_of, read
from esp_medsam.modality import ModalityTable


WriteVolume = Callable[..., Path]
HU = np.linspace(-1000, 1000, 24).astype(np.int16).reshape(2, 3, 4)
GRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.fixture
def gray_png(tmp_path: Path) -> Path:
    PIL.Image.fromarray(GRAY).save(tmp_path / "a.b.PNG")
    return tmp_path / "a.b.PNG"


class TestRead:
    def test_a_volume_is_all_that_its_file_says(
        self, table: ModalityTable, write_volume: WriteVolume
    ) -> None:
        affine = np.diag([2.0, 3, 4, 1])
        path = write_volume(HU, affine, "scan.v2.NII.GZ")

        image = read(path, modality="ct", table=table)

        assert (image.path, image.name, image.modality) == (str(path), "scan.v2", "ct")
        assert (image.modality_origin, image.unit, image.warnings) == ("user", "HU", ())
        assert (image.spatial_shape, image.spacing) == ((2, 3, 4), (2, 3, 4))
        np.testing.assert_array_equal(image.affine, affine)
        np.testing.assert_array_equal(image.pixels, HU[None])

    def test_a_photograph_states_no_geometry_and_no_unit(
        self, table: ModalityTable, gray_png: Path
    ) -> None:
        image = read(gray_png, modality="xray", table=table)

        assert (image.name, image.affine, image.spacing, image.unit) == ("a.b", None, None, None)
        assert image.spatial_shape == (3, 4)

    def test_reads_the_fundus_photograph_of_scikit_image(self, table: ModalityTable) -> None:
        path = Path(skimage.__file__).parent / "data" / "retina.jpg"

        image = read(path, modality="fundus", table=table)

        assert image.pixels is not None
        assert image.pixels.shape == (3, 1411, 1411)
        assert image.pixels[0].mean() > image.pixels[2].mean()  # red, not blue: channel order

    @pytest.mark.parametrize("name", ["anatomical.nii", "standard.nii.gz"])
    def test_reads_the_volumes_of_nibabel_as_nibabel_does(
        self, table: ModalityTable, name: str
    ) -> None:
        path = Path(nib.__file__).parent / "tests" / "data" / name

        image = read(path, modality="mri", table=table)

        np.testing.assert_array_equal(image.affine, nib.load(path).affine)
        np.testing.assert_array_equal(image.pixels, nib.load(path).get_fdata()[None])
        assert image.unit is None

    @pytest.mark.parametrize(
        "name", ["example4d.nii.gz", "example_nifti2.nii.gz", "functional.nii"]
    )
    def test_refuses_the_4d_volumes_of_nibabel(self, table: ModalityTable, name: str) -> None:
        with pytest.raises(FormatError, match="must be one volume"):
            read(Path(nib.__file__).parent / "tests" / "data" / name, modality="mri", table=table)

    def test_refuses_an_unknown_modality(self, table: ModalityTable, gray_png: Path) -> None:
        with pytest.raises(ModalityError, match="got 'pet'"):
            read(gray_png, modality="pet", table=table)

    def test_names_what_is_wrong_with_a_path(self, table: ModalityTable, tmp_path: Path) -> None:
        (tmp_path / "empty.png").touch()
        (tmp_path / "notes.txt").write_text("x")
        (tmp_path / "folder.nii").mkdir()
        cases = {
            "none.png": (InputNotFoundError, "there is none"),
            "empty.png": (CorruptFileError, "0 bytes"),
            "notes.txt": (FormatError, r"end in one of \.nii\.gz"),
            "folder.nii": (EmptyInputError, "must hold a DICOM image; it holds 0 other files"),
            "x" * 300 + ".png": (ReadError, "must be readable; got: File name too long"),
        }
        for name, (kind, found) in cases.items():
            with pytest.raises(kind, match=found):
                read(tmp_path / name, modality="xray", table=table)


class TestCt:
    def test_a_photograph_format_holds_no_hounsfield_units(
        self, table: ModalityTable, gray_png: Path
    ) -> None:
        with pytest.raises(FormatError, match=r"BMP cannot\. Pass ct_input windowed"):
            read(gray_png, modality="ct", table=table)

    def test_windowed_ct_has_no_unit(self, table: ModalityTable, gray_png: Path) -> None:
        assert read(gray_png, modality="ct", table=table, ct_input="windowed").unit is None

    def test_windowed_values_must_be_bytes(
        self, table: ModalityTable, write_volume: WriteVolume
    ) -> None:
        with pytest.raises(FormatError, match=r"0 to 255 .* got -1000 to 1000"):
            read(write_volume(HU), modality="ct", table=table, ct_input="windowed")

    def test_warns_where_hounsfield_units_look_like_bytes(
        self, table: ModalityTable, write_volume: WriteVolume
    ) -> None:
        image = read(write_volume(np.abs(HU // 10)), modality="ct", table=table)

        assert image.unit == "HU"
        assert "pass ct_input windowed" in image.warnings[0]

    def test_refuses_another_word(self, table: ModalityTable, gray_png: Path) -> None:
        with pytest.raises(OptionError, match="one of hu, windowed; got 'HU'"):
            read(gray_png, modality="xray", table=table, ct_input="HU")


class TestNames:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("d/a.nii.gz", "a"), ("a.NII", "a"), ("a.b.jpeg", "a.b"), ("a.nii.gz.png", "a.nii.gz"),
            ("a.txt", "a"), (".nii.gz", ".nii"),
        ],
    )  # fmt: skip
    def test_lose_the_ending_of_their_format(self, path: str, name: str) -> None:
        assert name_of(path) == name

    def test_tell_images_from_other_files(self) -> None:
        names = ["a.png", "a.TIFF", "a.nii.gz", "a.gz", "a.json", "png", ".png", "a.gif"]

        assert [name for name in names if is_image(name)] == names[:3]
