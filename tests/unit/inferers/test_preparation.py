"""Slices as the network is to see them, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import Flip, ScaleIntensity, SpatialCrop
from torch import Tensor

from esp_medsam.errors import GeometryError, OptionError
from esp_medsam.grid import Grid
from esp_medsam.image import Image, UltrasoundRegion
from esp_medsam.inferers.preparation import Slices
from esp_medsam.transforms.bias_field import BiasField
from esp_medsam.transforms.body import MeasureBody
from esp_medsam.transforms.by_modality import MeasureImage, ModalityTransforms
from esp_medsam.transforms.ct import Windows
from esp_medsam.transforms.ultrasound import CropToScan, NormalizeGain


PIXELS = torch.arange(6 * 8, dtype=torch.uint8).view(1, 6, 8)


def photograph(**known: Any) -> Image:
    fields = {"path": "a", "name": "a", "modality": "endoscopy", "grid": Grid(shape=(6, 8))}
    return Image(**{**fields, "intensity_range": (0.0, 40.0), **known})


def slices(*shown: Callable[..., Any], **known: Any) -> Slices:
    transforms = {"endoscopy": ModalityTransforms(shown=shown)}
    return Slices(PIXELS, photograph(**known), transforms=transforms)


class TestSlices:
    def test_are_the_image_itself_without_transforms(self) -> None:
        view = slices()[0]

        assert view.pixels.dtype == torch.uint8
        assert torch.equal(view.pixels, PIXELS)
        assert view.intensity_range == (0.0, 40.0)

    def test_transforms_see_the_window_as_zero_to_one(self) -> None:
        seen: list[Tensor] = []

        def look(image: Tensor) -> Tensor:
            seen.append(image)
            return image

        slices(look)[0]

        assert torch.equal(seen[0], (PIXELS / 40.0).clamp(0, 1))

    def test_low_values_are_bright_where_the_file_shows_them_so(self) -> None:
        view = slices(lambda image: image, intensity_range=(40.0, 0.0))[0]

        assert torch.allclose(view.pixels, (1 - PIXELS / 40.0).clamp(0, 1))

    @given(
        first=st.tuples(st.integers(0, 5), st.integers(0, 7)),
        second=st.tuples(st.integers(0, 5), st.integers(0, 7)),
    )
    def test_what_was_cropped_comes_back_to_its_place(
        self, first: tuple[int, int], second: tuple[int, int]
    ) -> None:
        crop = SpatialCrop(roi_start=first, roi_end=(6, 8))
        size = (6 - first[0], 8 - first[1])
        end = (max(1, size[0] - second[0]), max(1, size[1] - second[1]))

        view = slices(crop, SpatialCrop(roi_start=(0, 0), roi_end=end))[0]
        whole = view.put_back(view.pixels + 1)

        expected = torch.zeros(1, 6, 8)
        box = (slice(first[0], first[0] + end[0]), slice(first[1], first[1] + end[1]))
        expected[:, box[0], box[1]] = (PIXELS / 40.0).clamp(0, 1)[:, box[0], box[1]] + 1
        assert torch.equal(whole, expected)

    def test_transforms_can_see_what_the_file_states(self) -> None:
        region = UltrasoundRegion(rows=(1, 4), columns=(2, 5), data_type=1, spatial_format=1)

        view = slices(CropToScan(), ultrasound_regions=(region,))[0]

        assert view.box == (slice(1, 5), slice(2, 6))

    def test_refuse_transforms_that_move_more_than_an_edge(self) -> None:
        with pytest.raises(OptionError, match="may crop"):
            slices(Flip(spatial_axis=0))[0]

    def test_refuse_transforms_that_hide_their_crop(self) -> None:
        with pytest.raises(OptionError, match="must record their crops"):
            slices(lambda image: image[:, 1:])[0]

    def test_native_transforms_act_before_the_window(self) -> None:
        transforms = {
            "endoscopy": ModalityTransforms(
                native=[ScaleIntensity(minv=None, maxv=None, factor=1.0)]
            )
        }

        view = Slices(PIXELS, photograph(), transforms=transforms)[0]

        assert torch.allclose(view.pixels, (PIXELS * 2 / 40.0).clamp(0, 1))

    def test_what_was_measured_of_a_volume_is_applied_to_each_slice(self) -> None:
        air_around = np.full((1, 40, 40, 3), -1000, np.int16)
        air_around[:, 10:30, 12:26] = 40
        affine = np.diag([4.0, 4.0, 4.0, 1.0])
        record = photograph(modality="ct", unit="HU", grid=Grid(shape=(40, 40, 3), affine=affine))
        transforms = {"ct": ModalityTransforms(measure=[MeasureBody(margin=0)], native=[Windows()])}

        measured = MeasureImage(transforms)(air_around, record)
        view = Slices(torch.from_numpy(air_around), measured, transforms=transforms)[1]

        assert view.size == (14, 20)  # shown from above: rows to posterior, columns to the left
        assert view.pixels.unique().tolist() == pytest.approx([0.5])  # of -160 to 240
        assert view.put_back(torch.ones(1, *view.size)).sum() == 14 * 20

    def test_shading_of_a_volume_is_taken_from_each_slice(self) -> None:
        log = np.linspace(0.0, np.log(4.0), 2, dtype=np.float32).reshape(1, 1, 2)
        record = photograph(
            modality="mri", grid=Grid(shape=(2, 2, 3), affine=np.diag([1.0, 1.0, 5.0, 1.0])),
            intensity_range=(0.0, 8.0), measured=(BiasField(np.broadcast_to(log, (2, 2, 2))),),
        )  # fmt: skip

        views = Slices(torch.full((1, 2, 2, 3), 8.0), record)

        assert [float(view.pixels.mean()) for view in views] == pytest.approx([1.0, 0.5, 0.25])

    def test_of_a_stack_are_cropped_to_one_box(self) -> None:
        cine = torch.zeros(1, 60, 80, 3, dtype=torch.uint8)
        cine[:, 10:50, 20:60, 0] = 90
        cine[:, 12:54, 16:58, 2] = 90  # and a black frame between them
        record = photograph(
            modality="ultrasound", grid=Grid(shape=(60, 80, 3), stack_axis=2),
            intensity_range=(0.0, 255.0),
        )  # fmt: skip
        transforms = {"ultrasound": ModalityTransforms(shown=[NormalizeGain(), CropToScan()])}

        views = Slices(cine, record, transforms=transforms)

        assert [view.box for view in views] == [(slice(10, 54), slice(16, 60))] * 3

    def test_know_their_spacing_as_shown(self) -> None:
        seen = []
        record = photograph(
            modality="ct", grid=Grid(shape=(6, 8, 3), affine=np.diag([-2.0, -1.5, 5.0, 1.0]))
        )
        transforms = {"ct": ModalityTransforms(native=[lambda image: seen.append(image) or image])}

        Slices(PIXELS[..., None].expand(-1, -1, -1, 3), record, transforms=transforms)[0]

        assert seen[0].pixdim[:2].tolist() == [1.5, 2.0]  # rows run along the array's second axis

    def test_need_measured_intensities(self) -> None:
        with pytest.raises(OptionError, match="must measure the intensities"):
            slices(intensity_range=None)

    def test_frames_without_a_position_are_shown_as_stored(self) -> None:
        cine = torch.arange(24, dtype=torch.uint8).view(1, 2, 3, 4)
        record = photograph(grid=Grid(shape=(2, 3, 4), stack_axis=2))

        views = Slices(cine, record)

        assert len(views) == 4
        assert torch.equal(views[3].pixels, cine[..., 3])

    def test_slices_with_gaps_are_turned_by_their_own_positions(self) -> None:
        stack = torch.arange(24, dtype=torch.uint8).view(1, 2, 3, 4)
        axial = np.diag([-1.0, -1.0, 1.0, 1.0])  # columns to patient left, rows to posterior
        record = photograph(
            grid=Grid(shape=(2, 3, 4), stack_axis=2, slice_affines=np.stack([axial] * 4))
        )

        views = Slices(stack, record)

        assert torch.equal(views[1].pixels, stack[..., 1].swapaxes(1, 2))
        assert views.spacing == (1.0, 1.0)
        with pytest.raises(GeometryError, match=r"slice_axis must be axial.*for slices with gaps"):
            Slices(stack, record, slice_axis="coronal")
