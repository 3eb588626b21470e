from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import SimpleITK

from esp_medsam.errors import OptionError
from esp_medsam.integrations.monai_label.sent_label import plain_label


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

        picture, info = plain_label(label, {"a": 1}, tmp_path, of_picture=True)

        with PIL.Image.open(picture) as stored:
            assert np.asarray(stored).tolist() == [[0, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0]]
        assert info == {"a": 1}

    def test_a_picture_stays(self, tmp_path: Path) -> None:
        PIL.Image.new("L", (4, 3)).save(tmp_path / "in.png")

        label, _ = plain_label(tmp_path / "in.png", {}, tmp_path / "new", of_picture=True)

        assert label == tmp_path / "in.png"

    def test_a_turned_slice_or_several_are_refused(self, tmp_path: Path) -> None:
        turned = slice_of(tmp_path / "turned.nrrd", turn=-1.0)
        several = slice_of(tmp_path / "several.nrrd", slices=2)

        with pytest.raises(OptionError, match=r"its one slice; got turned \(4, 3, 1\)"):
            plain_label(turned, {}, tmp_path, of_picture=True)
        with pytest.raises(OptionError, match=r"its one slice; got \(4, 3, 2\)"):
            plain_label(several, {}, tmp_path, of_picture=True)

    def test_what_is_no_image_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "in.nrrd").write_text("x")

        with pytest.raises(OptionError, match="label must be a labelmap; it cannot be read"):
            plain_label(tmp_path / "in.nrrd", {}, tmp_path, of_picture=True)


class TestOfAVolume:
    def test_a_labelmap_stays(self, tmp_path: Path) -> None:
        label = slice_of(tmp_path / "in.nii.gz")

        assert plain_label(label, {}, tmp_path, of_picture=False) == (label, {})
