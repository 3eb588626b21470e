from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import skimage
from pydicom import DataElement, dcmread
from pydicom.datadict import dictionary_VR

from esp_medsam.errors import (
    CorruptFileError,
    EmptyInputError,
    FormatError,
    InputNotFoundError,
    ModalityError,
    OptionError,
    ReadError,
)
from esp_medsam.io import is_image, name_of, read, settle_modality
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

        image = settle_modality(read(path), "ct", table)

        assert (image.path, image.name, image.modality) == (str(path), "scan.v2", "ct")
        assert (image.modality_origin, image.unit, image.warnings) == ("user", "HU", ())
        assert (image.grid.shape, image.grid.spacing) == ((2, 3, 4), (2, 3, 4))
        np.testing.assert_array_equal(image.grid.affine, affine)
        np.testing.assert_array_equal(image.pixels, HU[None])

    def test_a_photograph_states_no_geometry_and_no_unit(
        self, table: ModalityTable, gray_png: Path
    ) -> None:
        image = settle_modality(read(gray_png), "xray", table)

        assert (image.name, image.grid.affine, image.grid.spacing, image.unit) == (
            "a.b",
            None,
            None,
            None,
        )
        assert image.grid.shape == (3, 4)

    def test_reads_the_fundus_photograph_of_scikit_image(self, table: ModalityTable) -> None:
        path = Path(skimage.__file__).parent / "data" / "retina.jpg"

        image = settle_modality(read(path), "fundus", table)

        assert image.pixels is not None
        assert image.pixels.shape == (3, 1411, 1411)
        assert image.pixels[0].mean() > image.pixels[2].mean()  # red, not blue: channel order

    @pytest.mark.parametrize("name", ["anatomical.nii", "standard.nii.gz"])
    def test_reads_the_volumes_of_nibabel_as_nibabel_does(
        self, table: ModalityTable, name: str
    ) -> None:
        path = Path(nib.__file__).parent / "tests" / "data" / name

        image = settle_modality(read(path), "mri", table)

        np.testing.assert_array_equal(image.grid.affine, nib.load(path).affine)
        np.testing.assert_array_equal(image.pixels, nib.load(path).get_fdata()[None])
        assert image.unit is None

    @pytest.mark.parametrize(
        "name", ["example4d.nii.gz", "example_nifti2.nii.gz", "functional.nii"]
    )
    def test_refuses_the_4d_volumes_of_nibabel(self, table: ModalityTable, name: str) -> None:
        with pytest.raises(FormatError, match="must be one volume"):
            settle_modality(read(Path(nib.__file__).parent / "tests" / "data" / name), "mri", table)

    def test_refuses_an_unknown_modality(self, table: ModalityTable, gray_png: Path) -> None:
        with pytest.raises(ModalityError, match="got 'pet'"):
            settle_modality(read(gray_png), "pet", table)

    def test_names_what_is_wrong_with_a_path(self, table: ModalityTable, tmp_path: Path) -> None:
        (tmp_path / "empty.png").touch()
        (tmp_path / "notes.txt").write_text("x")
        (tmp_path / "folder.nii").mkdir()
        cases = {
            "none.png": (InputNotFoundError, "there is none"),
            "empty.png": (CorruptFileError, "0 bytes"),
            "notes.txt": (FormatError, r"end in one of \.nii\.gz"),
            "folder.nii": (EmptyInputError, "must hold a DICOM image;.*0 other files"),
            "x" * 300 + ".png": (ReadError, "must be readable; got: File name too long"),
        }
        for name, (kind, found) in cases.items():
            with pytest.raises(kind, match=found):
                settle_modality(read(tmp_path / name), "xray", table)


@pytest.fixture
def write_ct(shipped: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes one slice of a CT, changed; None takes away."""

    def write(**changes: Any) -> Path:
        dataset = dcmread(shipped("CT_small.dcm"))
        for keyword, value in changes.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                element = DataElement(
                    keyword, dictionary_VR(keyword), value, already_converted=True
                )
                dataset[keyword] = element
        dataset.save_as(tmp_path / "a.dcm")
        return tmp_path / "a.dcm"

    return write


class TestCt:
    def test_a_photograph_format_holds_no_hounsfield_units(
        self, table: ModalityTable, gray_png: Path
    ) -> None:
        with pytest.raises(FormatError, match=r"BMP cannot\. Pass `ct_input` windowed"):
            settle_modality(read(gray_png), "ct", table)

    def test_windowed_ct_has_no_unit(self, table: ModalityTable, gray_png: Path) -> None:
        assert settle_modality(read(gray_png), "ct", table, ct_input="windowed").unit is None

    def test_windowed_values_must_be_bytes(
        self, table: ModalityTable, write_volume: WriteVolume
    ) -> None:
        with pytest.raises(FormatError, match=r"0 to 255 .* got -1000 to 1000"):
            settle_modality(read(write_volume(HU)), "ct", table, ct_input="windowed")

    def test_warns_where_hounsfield_units_look_like_bytes(
        self, table: ModalityTable, write_volume: WriteVolume
    ) -> None:
        image = settle_modality(read(write_volume(np.abs(HU // 10))), "ct", table)

        assert image.unit == "HU"
        assert "pass `ct_input` windowed" in image.warnings[0]

    def test_a_user_may_say_what_dicom_leaves_open(
        self, table: ModalityTable, write_ct: Callable[..., Path]
    ) -> None:
        path = write_ct(RescaleType="US")
        with pytest.raises(FormatError, match=r"Rescale Type says US\. Pass `ct_input` hu"):
            settle_modality(read(path), "ct", table)

        image = settle_modality(read(path), "ct", table, ct_input="hu")

        assert (image.unit, image.unit_origin) == ("HU", "user")
        (note,) = (note for note in image.warnings if "Hounsfield" in note)
        assert note == (
            "The values were read as Hounsfield units because of ct_input; Rescale Type says US."
        )

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"RescaleType": "Doe^Jane"}, "Rescale Type says text of 8 characters"),
            ({"RescaleIntercept": None, "RescaleSlope": None}, "it has no Rescale Intercept"),
            ({"SOPClassUID": "1.2.3"}, "its SOP class is not a CT class"),
        ],
    )
    def test_whatever_leaves_it_open_is_told(
        self, table: ModalityTable, write_ct: Callable[..., Path],
        changes: dict[str, Any], reason: str,
    ) -> None:  # fmt: skip
        path = write_ct(**changes)
        with pytest.raises(FormatError, match=reason):
            settle_modality(read(path), "ct", table)

        image = settle_modality(read(path), "ct", table, ct_input="hu")

        assert (image.unit, image.unit_origin) == ("HU", "user")
        assert any(reason in note for note in image.warnings)

    @pytest.mark.parametrize("unit", ["HU", "Hounsfield Unit", "hounsfield units"])
    @pytest.mark.parametrize("ct_input", [None, "hu"])
    @pytest.mark.parametrize("sop_class", [None, "05703841015643452503209109170649121759226008"])
    def test_what_dicom_says_is_dicoms_word(
        self, table: ModalityTable, write_ct: Callable[..., Path],
        unit: str, ct_input: str | None, sop_class: str | None,
    ) -> None:  # fmt: skip
        changes = {} if sop_class is None else {"SOPClassUID": sop_class}
        path = write_ct(RescaleType=unit, **changes)

        image = settle_modality(read(path), None, table, ct_input=ct_input)

        assert (image.unit, image.unit_origin) == ("HU", "dicom")
        assert not any("Hounsfield" in note for note in image.warnings)

    def test_the_origin_of_a_unit_that_a_format_cannot_state_is_told(
        self, table: ModalityTable, write_volume: WriteVolume
    ) -> None:
        path = write_volume(np.abs(HU // 10))
        assumed = settle_modality(read(path), "ct", table)
        given = settle_modality(read(path), "ct", table, ct_input="hu")
        windowed = settle_modality(read(path), "ct", table, ct_input="windowed")

        assert [image.unit_origin for image in (assumed, given, windowed)] == [
            "assumed", "user", None,
        ]  # fmt: skip
        assert [len(image.warnings) for image in (assumed, given)] == [1, 0]

    def test_colors_are_in_no_unit_whatever_a_user_says(
        self, table: ModalityTable, shipped: Callable[[str], Path], gray_png: Path
    ) -> None:
        for path in (shipped("examples_rgb_color.dcm"), gray_png):
            with pytest.raises(FormatError, match="must hold Hounsfield units"):
                settle_modality(read(path), "ct", table, force=True, ct_input="hu")

    def test_refuses_another_word(self, table: ModalityTable, gray_png: Path) -> None:
        with pytest.raises(OptionError, match="one of hu, windowed; got 'HU'"):
            settle_modality(read(gray_png), "xray", table, ct_input="HU")


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
