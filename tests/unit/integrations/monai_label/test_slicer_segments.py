"""Segmentations of 3D Slicer, written and read; slicerio is of those who write Slicer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
import slicerio
from hypothesis import given
from hypothesis import strategies as st

from esp_medsam.errors import OptionError
from esp_medsam.integrations.monai_label.slicer_segments import read_segments, write_segments
from esp_medsam.modality import ModalityTable


ORIGIN, SPACING = (10.0, -20.0, 30.0), (0.8, 1.2, 5.0)


def image_of(array: npt.NDArray[np.uint8], turn: npt.NDArray[np.float64] | None = None) -> Any:
    """Return an image whose first axis is the array's first."""
    image: Any = SimpleITK.GetImageFromArray(array.transpose())
    image.SetOrigin(ORIGIN)
    image.SetSpacing(SPACING)
    if turn is not None:
        image.SetDirection(turn.ravel().tolist())
    return image


def labelmap() -> npt.NDArray[np.uint8]:
    array = np.zeros((4, 5, 6), np.uint8)
    array[1, 2, 3], array[2:4, 3, 0] = 1, 4
    return array


class TestWritten:
    def test_segments_have_names_values_colors_and_codes(
        self, table: ModalityTable, tmp_path: Path
    ) -> None:
        targets = [table["ct"].targets[0], table["ct"].targets[3]]

        write_segments(image_of(labelmap()), tmp_path / "a.seg.nrrd", targets)

        stored = slicerio.read_segmentation(str(tmp_path / "a.seg.nrrd"))
        found = [(one["name"], one["labelValue"]) for one in stored["segments"]]
        assert found == [("liver", 1), ("kidney_tumor", 4)]
        assert stored["segments"][0]["terminology"]["type"][:2] == ["SCT", targets[0].type.value]
        np.testing.assert_allclose(
            np.multiply(stored["segments"][0]["color"], 255), targets[0].color, atol=0.01
        )
        np.testing.assert_array_equal(stored["voxels"], labelmap())

    @given(axes=st.permutations([0, 1, 2]), signs=st.tuples(*[st.sampled_from([1, -1])] * 3))
    def test_places_come_back_whatever_the_orientation(
        self,
        table: ModalityTable,
        tmp_path_factory: pytest.TempPathFactory,
        axes: list[int],
        signs: tuple[int, int, int],
    ) -> None:
        folder = tmp_path_factory.mktemp("seg")
        image = image_of(labelmap(), np.eye(3)[axes] * signs)

        write_segments(image, folder / "a.seg.nrrd", table["ct"].targets[:4])
        info = read_segments(folder / "a.seg.nrrd", folder / "a.nrrd")

        again: Any = SimpleITK.ReadImage(folder / "a.nrrd")
        assert [(one["name"], one["idx"]) for one in info][::3] == [
            ("liver", 1),
            ("kidney_tumor", 4),
        ]
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(again).transpose(), labelmap())
        np.testing.assert_allclose(again.GetDirection(), image.GetDirection(), atol=1e-9)
        np.testing.assert_allclose(again.GetOrigin(), ORIGIN)
        np.testing.assert_allclose(again.GetSpacing(), SPACING)


class TestRead:
    def write(self, file: Path, layers: npt.NDArray[np.uint8], **wrong: Any) -> Path:
        """Write two segments, liver and kidney, each in a layer of its own."""
        segments: list[dict[str, Any]] = [
            {"id": name, "name": name, "labelValue": 1, "layer": layer}
            for layer, name in enumerate(("liver", "kidney"))
        ]
        segments[0] |= {key: value for key, value in wrong.items() if key in segments[0]}
        place = wrong.get("place", np.eye(4))
        content = {"voxels": layers, "ijkToLPS": place, "segments": segments}
        slicerio.write_segmentation(str(file), content)
        return file

    def test_layers_are_merged(self, tmp_path: Path) -> None:
        layers = np.zeros((2, 4, 5, 6), np.uint8)
        layers[0, 1, 1, 1] = layers[1, 2, 2, 2] = 1

        info = read_segments(self.write(tmp_path / "a.seg.nrrd", layers), tmp_path / "a.nrrd")

        array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / "a.nrrd")).transpose()
        assert info == [{"name": "liver", "idx": 1}, {"name": "kidney", "idx": 2}]
        assert (array[1, 1, 1], array[2, 2, 2], int(array.sum())) == (1, 2, 3)

    def test_segments_that_overlap_are_refused(self, tmp_path: Path) -> None:
        file = self.write(tmp_path / "a.seg.nrrd", np.ones((2, 2, 2, 2), np.uint8))

        with pytest.raises(OptionError, match="do not overlap; 'kidney' does"):
            read_segments(file, tmp_path / "a.nrrd")

    @pytest.mark.parametrize("content", [b"", b"NRRD0004\ntype: uchar\n", b"\x1f\x8b"])
    def test_other_files_are_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.seg.nrrd").write_bytes(content)

        with pytest.raises(OptionError, match="label must be a segmentation of 3D Slicer"):
            read_segments(tmp_path / "a.seg.nrrd", tmp_path / "a.nrrd")

    @pytest.mark.parametrize(
        "wrong", [{"layer": 7}, {"place": np.full((4, 4), np.nan)}, {"place": np.zeros((4, 4))}]
    )
    def test_layers_and_places_that_are_none_are_refused(
        self, tmp_path: Path, wrong: dict[str, Any]
    ) -> None:
        layers = np.zeros((2, 3, 4, 5), np.uint8)
        layers[0, 1, 1, 1] = 1
        file = self.write(tmp_path / "a.seg.nrrd", layers, **wrong)

        with pytest.raises(OptionError, match="label must"):
            read_segments(file, tmp_path / "a.nrrd")
