from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from esp_medsam.errors import GeometryError
from esp_medsam.grid import Grid
from esp_medsam.image import Image, SourceInstance
from esp_medsam.workflows.describe import describe, kind_of


def source(number: int, frame: int | None = None) -> SourceInstance:
    return SourceInstance(
        path=f"in/{number}.dcm", sop_class_uid="1", sop_instance_uid=f"2.{number}", frame=frame
    )


def image(
    shape: tuple[int, ...] = (4, 5, 6), grid: Mapping[str, Any] | None = None, **fields: object
) -> Image:
    pixels = np.zeros((1, *shape), np.int16)
    pixels[0, 0, 0] = -7
    known = {"path": "in/a.nii.gz", "name": "a", "modality": "ct", "pixels": pixels, **fields}
    return Image(grid=Grid(shape=shape, **grid or {}), **known)  # type: ignore[arg-type]


SERIES = (source(0), source(1), source(2))
FRAMES = (source(0, 1), source(0, 2), source(0, 3))
SLICE_AFFINES = np.stack([np.diag([-0.5, -0.5, 1.0, 1.0])] * 3)
UNEVEN = {"stack_axis": 2, "slice_affines": SLICE_AFFINES}


class TestKindOf:
    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("a.nii", "NIfTI"),
            ("a.NII.GZ", "NIfTI"),
            ("a.nrrd", "NRRD"),
            ("a.nhdr", "NRRD"),
            ("a.mha", "MetaImage"),
            ("a.mhd", "MetaImage"),
        ],
    )
    def test_of_a_volume_is_its_format(self, path: str, kind: str) -> None:
        assert kind_of(image(path=path)) == kind

    def test_of_a_photograph_is_picture(self) -> None:
        assert kind_of(image((4, 5), path="a.JPG")) == "picture"

    @pytest.mark.parametrize(
        ("shape", "fields", "kind"),
        [
            ((4, 5, 3), {"sources": SERIES, "grid": {"affine": np.eye(4)}}, "DICOM series"),
            (
                (4, 5, 3),
                {"sources": SERIES, "grid": UNEVEN},
                "DICOM series",
            ),
            ((4, 5, 3), {"sources": FRAMES, "grid": {"affine": np.eye(4)}}, "DICOM multi-frame"),
            ((4, 5, 3), {"sources": FRAMES, "grid": {"stack_axis": 2}}, "DICOM frames"),
            ((4, 5, 1), {"sources": SERIES[:1], "grid": {"affine": np.eye(4)}}, "DICOM image"),
            ((4, 5), {"sources": SERIES[:1]}, "DICOM image"),
        ],
    )
    def test_of_dicom_says_what_is_stacked(
        self, shape: tuple[int, ...], fields: dict[str, object], kind: str
    ) -> None:
        assert kind_of(image(shape, **fields)) == kind


class TestDescribe:
    def test_of_a_volume_says_where_its_voxels_lie(self) -> None:
        affine = np.diag([-0.5, -0.75, 3.0, 1.0])

        said = describe(image(grid={"affine": affine}, unit="HU"))

        assert (said.shape, said.axes) == ((4, 5, 6), ("i", "j", "k"))
        assert (said.spacing, said.orientation, said.oblique) == ((0.5, 0.75, 3.0), "LPS", 0.0)
        assert (said.slices, said.plane) == (6, "axial")
        assert (said.intensities, said.unit, said.dtype) == ((-7, 0), "HU", "int16")

    def test_of_an_oblique_volume_says_by_how_much(self) -> None:
        turn = np.deg2rad(20)
        affine = np.eye(4)
        affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]

        said = describe(image(grid={"affine": affine}))

        assert (said.orientation, said.oblique) == ("RAS", 20.0)

    def test_of_uneven_slices_states_no_distance_between_them(self) -> None:
        record = image((4, 5, 3), sources=SERIES, grid=UNEVEN)

        said = describe(record)

        assert said.spacing == (0.5, 0.5, None)
        assert said.axes == ("columns", "rows", "slices")
        assert (said.orientation, said.plane, said.files) == ("LPS", "axial", 3)
        assert said.file is None

    def test_of_frames_states_no_position(self) -> None:
        record = image(
            (4, 5, 3), sources=FRAMES, grid={"stack_axis": 2, "pixel_spacing": (0.2, 0.3)}
        )

        said = describe(record)

        assert said.spacing == (0.2, 0.3, None)
        assert said.axes == ("rows", "columns", "frames")
        assert (said.orientation, said.plane, said.slices, said.files) == (None, None, 3, 1)
        assert said.file == "in/0.dcm"

    def test_of_a_photograph_states_no_geometry(self) -> None:
        said = describe(image((4, 5)))

        assert (said.spacing, said.orientation, said.plane, said.slices) == (None, None, None, 1)

    def test_what_is_not_settled_states_no_modality(self) -> None:
        said = describe(image((4, 5), modality=None))

        assert (said.modality, said.modality_origin) == (None, None)

    def test_the_user_may_choose_the_plane(self) -> None:
        said = describe(image(grid={"affine": np.eye(4)}), slice_axis="coronal")

        assert (said.slices, said.plane) == (5, "coronal")

    def test_refuses_a_plane_across_a_gap(self) -> None:
        record = image((4, 5, 3), sources=SERIES, grid=UNEVEN)

        with pytest.raises(GeometryError, match="slice_axis must be axial"):
            describe(record, slice_axis="sagittal")
