from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from esp_medsam.errors import FormatError, OptionError
from esp_medsam.image import Image
from esp_medsam.io.picture_file import write_labelmap_png
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.datalist import Item, Mask
from esp_medsam.workflows.datalist_images import MaskReader, read_image
from tests.support.nifti import save_nifti


VALUES = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.fixture
def image(tmp_path: Path, table: ModalityTable) -> Image:
    """A gray picture of 3 rows by 4 columns."""
    PILImage.fromarray(VALUES).save(tmp_path / "a.png")
    return read_image(item(tmp_path), table)


def item(folder: Path, **keys: Any) -> Item:
    given = {"image": str(folder / "a.png"), "modality": "mri", "labels": {}, **keys}
    return Item.model_validate(given)


class TestReadMask:
    def test_values_are_found_in_gray(
        self, tmp_path: Path, image: Image, table: ModalityTable
    ) -> None:
        PILImage.fromarray(VALUES.astype(np.uint16) * 300).save(tmp_path / "m.png")

        mask = MaskReader(image, table)(Mask(path=str(tmp_path / "m.png"), values=(300, 3300)))

        np.testing.assert_array_equal(mask, np.isin(VALUES, (1, 11)))

    def test_values_of_a_palette_are_places_and_not_colors(
        self, tmp_path: Path, image: Image, table: ModalityTable
    ) -> None:
        write_labelmap_png(tmp_path / "m.png", VALUES, {1: (255, 0, 0), 7: (0, 255, 0)})

        mask = MaskReader(image, table)(Mask(path=str(tmp_path / "m.png"), values=(7,)))

        np.testing.assert_array_equal(mask, VALUES == 7)

    def test_values_of_a_volume_are_found_on_its_grid(
        self, tmp_path: Path, table: ModalityTable
    ) -> None:
        labels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
        for name in ("v.nii.gz", "m.nii.gz"):
            save_nifti(tmp_path / name, labels)
        volume = read_image(item(tmp_path, image=str(tmp_path / "v.nii.gz")), table)

        mask = MaskReader(volume, table)(Mask(path=str(tmp_path / "m.nii.gz"), values=(0, 5)))

        np.testing.assert_array_equal(mask, np.isin(labels, (0, 5)))

    def test_refuses_values_in_color(
        self, tmp_path: Path, image: Image, table: ModalityTable
    ) -> None:
        PILImage.fromarray(np.stack([VALUES, VALUES, VALUES + 1], -1)).save(tmp_path / "m.png")

        with pytest.raises(OptionError, match=r"gray pictures, or have a palette .*m\.png is"):
            MaskReader(image, table)(Mask(path=str(tmp_path / "m.png"), values=(1,)))

    def test_refuses_values_off_the_grid(
        self, tmp_path: Path, image: Image, table: ModalityTable
    ) -> None:
        PILImage.fromarray(VALUES.T.copy()).save(tmp_path / "m.png")

        with pytest.raises(OptionError, match=r"image's grid, \(3, 4\); .*m\.png is \(4, 3\)"):
            MaskReader(image, table)(Mask(path=str(tmp_path / "m.png"), values=(1,)))


class TestWhatIsKnown:
    def test_of_a_target_under_neither_key_nothing_is(
        self, tmp_path: Path, image: Image, table: ModalityTable
    ) -> None:
        PILImage.fromarray(VALUES).save(tmp_path / "m.png")
        labels = {"path": str(tmp_path / "m.png"), "values": {"glioma": [1]}}
        mine = item(tmp_path, labels=labels, absent=["myocardium"])

        reader = MaskReader(image, table)
        glioma, myocardium, other = (
            reader.of_target(mine, target) for target in ("glioma", "myocardium", "left_ventricle")
        )

        assert glioma is not None
        assert myocardium is not None
        assert (glioma.sum(), myocardium.sum(), other) == (1, 0, None)

    def test_pixels_are_labeled_but_for_those_that_are_unknown(
        self, tmp_path: Path, image: Image, table: ModalityTable
    ) -> None:
        PILImage.fromarray(VALUES).save(tmp_path / "m.png")
        unknown = {"path": str(tmp_path / "m.png"), "values": [0, 3]}

        labeled = MaskReader(image, table).labeled(item(tmp_path, unknown=unknown))

        assert labeled is not None
        np.testing.assert_array_equal(labeled, ~np.isin(VALUES, (0, 3)))
        assert MaskReader(image, table).labeled(item(tmp_path)) is None


class TestOffset:
    """CT pictures whose values are Hounsfield units and something."""

    @pytest.fixture
    def stored(self, tmp_path: Path) -> dict[str, Any]:
        values = np.array([[0, 1024, 1064], [2048, 65535, 1000]], np.uint16)
        PILImage.fromarray(values).save(tmp_path / "a.png")
        return {"modality": "ct", "ct_input": "hu"}

    def test_gives_hounsfield_units(
        self, tmp_path: Path, stored: dict[str, Any], table: ModalityTable
    ) -> None:
        image = read_image(item(tmp_path, **stored, offset=-1024), table)

        assert (image.unit, image.unit_origin) == ("HU", "user")
        np.testing.assert_array_equal(
            image.pixels, [[[-1024, 0, 40], [1024, 65535 - 1024, 1000 - 1024]]]
        )

    def test_without_one_a_picture_holds_no_hounsfield_units(
        self, tmp_path: Path, stored: dict[str, Any], table: ModalityTable
    ) -> None:
        with pytest.raises(FormatError, match="must hold Hounsfield units to be CT"):
            read_image(item(tmp_path, **stored), table)

    @pytest.mark.parametrize("name", ["v.nii.gz", "color.png"])
    def test_is_for_gray_pictures_alone(
        self, tmp_path: Path, stored: dict[str, Any], table: ModalityTable, name: str
    ) -> None:
        save_nifti(tmp_path / "v.nii.gz", np.zeros((2, 2, 2), np.int16))
        PILImage.new("RGB", (4, 4)).save(tmp_path / "color.png")
        mine = item(tmp_path, **stored, offset=-1024).model_copy(
            update={"image": str(tmp_path / name)}
        )

        with pytest.raises(OptionError, match=f"offset must .*; got -1024 for .*{name}"):
            read_image(mine, table)
