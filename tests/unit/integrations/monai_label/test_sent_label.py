from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import SimpleITK
import skimage

from esp_medsam.errors import EspMedSamError, OptionError
from esp_medsam.integrations.monai_label.sent_label import plain_label


IMAGE = Path(skimage.__path__[0], "data", "retina.jpg")
"""An image, which labels are not larger than."""


def slice_of(file: Path, turn: float = 1.0, slices: int = 1) -> Path:
    """Write a volume of slices of three rows and four columns, with 2 in the corner."""
    array = np.zeros((slices, 3, 4), np.uint8)
    array[:, 0, 3] = 2
    image: Any = SimpleITK.GetImageFromArray(array)
    image.SetDirection((turn, 0, 0, 0, 1, 0, 0, 0, 1))
    SimpleITK.WriteImage(image, file)
    return file


class TestOfAPicture:
    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
    def test_a_volume_of_its_slice_becomes_a_picture(self, tmp_path: Path, ending: str) -> None:
        label = slice_of(tmp_path / f"in{ending}")

        picture, info = plain_label(label, {"a": 1}, tmp_path, IMAGE, of_picture=True)

        with PIL.Image.open(picture) as stored:
            assert np.asarray(stored).tolist() == [[0, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0]]
        assert info == {"a": 1}

    def test_a_picture_stays(self, tmp_path: Path) -> None:
        PIL.Image.new("L", (4, 3)).save(tmp_path / "in.png")

        label, _ = plain_label(tmp_path / "in.png", {}, tmp_path / "new", IMAGE, of_picture=True)

        assert label == tmp_path / "in.png"

    def test_a_turned_slice_or_several_are_refused(self, tmp_path: Path) -> None:
        turned = slice_of(tmp_path / "turned.nrrd", turn=-1.0)
        several = slice_of(tmp_path / "several.nrrd", slices=2)

        with pytest.raises(OptionError, match=r"its one slice; got turned \(4, 3, 1\)"):
            plain_label(turned, {}, tmp_path, IMAGE, of_picture=True)
        with pytest.raises(OptionError, match=r"its one slice; got \(4, 3, 2\)"):
            plain_label(several, {}, tmp_path, IMAGE, of_picture=True)

    def test_what_is_no_image_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "in.nrrd").write_text("x")

        with pytest.raises(EspMedSamError, match="label must be NRRD; its content is something"):
            plain_label(tmp_path / "in.nrrd", {}, tmp_path, IMAGE, of_picture=True)


class TestOfAVolume:
    def test_a_labelmap_stays(self, tmp_path: Path) -> None:
        label = slice_of(tmp_path / "in.nii.gz")

        assert plain_label(label, {}, tmp_path, IMAGE, of_picture=False) == (label, {})


class TestRefused:
    @pytest.mark.parametrize("number", [257.0, -255.0, 1.9, np.nan])
    def test_values_that_are_none_of_a_label(self, tmp_path: Path, number: float) -> None:
        array = np.zeros((1, 3, 4), np.float32)
        array[0, 1, 1] = number
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), tmp_path / "in.mha")

        with pytest.raises(OptionError, match="whole numbers from 0 to 255"):
            plain_label(tmp_path / "in.mha", {}, tmp_path, IMAGE, of_picture=True)

    @pytest.mark.parametrize("ending", [".nrrd", ".seg.nrrd", ".mha"])
    def test_a_header_that_names_another_file(self, tmp_path: Path, ending: str) -> None:
        (tmp_path / "secret.txt").write_bytes(b"x" * 12)
        label = tmp_path / f"in{ending}"
        if ending == ".mha":
            label.write_text(
                "ObjectType = Image\nNDims = 3\nDimSize = 4 3 1\nElementSpacing = 1 1 1\n"
                "ElementType = MET_UCHAR\n"
                f"ElementDataFile = {tmp_path / 'secret.txt'}\n"
            )
        else:
            label.write_text(
                "NRRD0004\ntype: uchar\ndimension: 3\nspace: left-posterior-superior\n"
                "sizes: 4 3 1\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n"
                f"encoding: raw\ndata file: {tmp_path / 'secret.txt'}\n"
            )

        with pytest.raises(
            EspMedSamError, match=r"its header (names another one|names one elsewhere)"
        ):
            plain_label(label, {}, tmp_path, IMAGE, of_picture=True)

    @pytest.mark.parametrize("name", ["in.html", "in.dcm", "in", "in.jpg"])
    def test_what_is_no_file_of_a_label(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("<script>")

        with pytest.raises(OptionError, match="label must end in one of"):
            plain_label(tmp_path / name, {}, tmp_path, IMAGE, of_picture=True)

    def test_a_label_larger_than_its_image_is_not_read(self, tmp_path: Path) -> None:
        PIL.Image.new("L", (1500, 1500)).save(tmp_path / "in.png")

        with pytest.raises(OptionError, match="grid of 1,990,921 voxels; it has 2,250,000"):
            plain_label(tmp_path / "in.png", {}, tmp_path, IMAGE, of_picture=True)
