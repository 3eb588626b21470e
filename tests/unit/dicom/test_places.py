"""Where pixels come to lie: by what their header says of them, and by nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from esp_medsam import io
from esp_medsam.image import Image
from esp_medsam.io import settle_modality
from esp_medsam.modality import ModalityTable


ROWS, COLUMNS = 4, 6
LPS = np.diag([-1.0, -1.0, 1.0])

Places = dict[tuple[float, ...], int]


def stated(positions: np.ndarray, across: np.ndarray, down: np.ndarray) -> Places:
    """Value of each pixel by where its header says that it lies, LPS in mm."""
    places: Places = {}
    for k, position in enumerate(positions):
        for row in range(ROWS):
            for column in range(COLUMNS):
                there = position + across * column * 0.75 + down * row * 0.5
                places[tuple((there.round(3) + 0.0).tolist())] = value_of(k, row, column)
    return places


def found(image: Image) -> Places:
    """Value of each voxel by where the record says that it lies."""
    assert image.pixels is not None
    assert image.grid.slice_affines is not None
    places: Places = {}
    for i, j, k in np.ndindex(*image.grid.shape):
        there = LPS @ (image.grid.slice_affines[k] @ (i, j, 0, 1))[:3]
        places[tuple((there.round(3) + 0.0).tolist())] = int(image.pixels[0, i, j, k])
        if image.grid.affine is not None:
            np.testing.assert_allclose(
                image.grid.affine @ (i, j, k, 1),
                image.grid.slice_affines[k] @ (i, j, 0, 1),
                atol=1e-3,
            )
    return places


def value_of(k: int, row: int, column: int) -> int:
    return (k * ROWS + row) * COLUMNS + column


def pixels_of(k: int) -> bytes:
    return np.arange(k * 24, (k + 1) * 24, dtype=np.uint16).tobytes()


class TestPlaces:
    @settings(
        max_examples=40,
        deadline=None,
        # It hands out functions without a state.
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def test_are_those_of_the_headers_however_slices_lie_and_files_are_called(
        self,
        dicom: Any,
        table: ModalityTable,
        tmp_path_factory: pytest.TempPathFactory,
        data: st.DataObject,
    ) -> None:
        folder = tmp_path_factory.mktemp("stack")
        count = data.draw(st.integers(1, 6))
        kept = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1)))
        gap = data.draw(st.sampled_from([-3.0, 0.8, 2.5]))
        turn = Rotation.from_rotvec(data.draw(st.tuples(*[st.floats(-3.1, 3.1)] * 3)))
        across, down, normal = turn.as_matrix().round(9)
        mirrored = data.draw(st.booleans())
        down = -down if mirrored else down
        positions = np.array([(normal * gap * k).round(6) for k in kept])
        order = data.draw(st.permutations(range(len(kept))))
        described = {
            "ImageOrientationPatient": [*across, *down], "RescaleIntercept": 0, "RescaleSlope": 1,
        }  # fmt: skip
        if data.draw(st.booleans()):
            frames = dicom.enhanced([tuple(positions[k].tolist()) for k in order])
            frames.PixelData = b"".join(pixels_of(k) for k in order)
            shared = frames.SharedFunctionalGroupsSequence[0]
            shared.PlaneOrientationSequence[0].ImageOrientationPatient = [*across, *down]
            del shared.PixelValueTransformationSequence, frames.RescaleSlope
            del frames.RescaleIntercept
            dicom.save(frames, folder / "frames")
        else:
            for name, k in enumerate(order):
                own = {"ImagePositionPatient": positions[k].tolist(), "PixelData": pixels_of(k)}
                dicom.save(dicom.dataset(k, **described, **own), folder / f"{name}.dcm")

        image = settle_modality(io.read(folder), "mri", table, force=True)

        assert found(image) == stated(positions, across, down)
