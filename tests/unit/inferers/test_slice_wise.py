from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from esp_medsam.errors import (
    ModalityError,
    OptionError,
    TargetError,
)
from esp_medsam.image import IMAGE_KEY, Image, segmentation_of
from esp_medsam.inferers import precision
from esp_medsam.modality import ModalityTable
from tests.support.inference import as_batch, blobs, build_inferer
from tests.support.networks import BrightIsForeground


RAS = np.diag([1.0, 1.0, 3.0, 1.0])


class TestGrid:
    def test_photograph_comes_back_on_its_own_grid_as_uint8(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        image = as_batch(np.repeat(blobs((45, 70)), 3, axis=0))

        result = build_inferer(table)(image, network)

        assert result.shape == (1, 1, 45, 70)
        assert result.dtype == torch.uint8

    def test_image_of_the_input_size_is_segmented_exactly(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        pixels = blobs((32, 32))

        result = build_inferer(table)(as_batch(pixels), network)

        expected = torch.sigmoid(20 * (torch.from_numpy(pixels).float() / 255 - 0.5))
        torch.testing.assert_close(result[0].as_tensor(), (expected * 255).round().byte())

    def test_mask_of_a_bright_blob_overlaps_it(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        pixels = np.zeros((1, 90, 60), np.uint8)
        pixels[0, 20:50, 10:40] = 255

        mask = build_inferer(table, input_size=(64, 96))(as_batch(pixels), network)[0, 0] >= 128

        both = (mask & torch.from_numpy(pixels[0] > 0)).sum()
        assert 2 * both / (mask.sum() + 900) > 0.95

    @pytest.mark.parametrize("stride", [1, 4])
    def test_low_resolution_logits_come_back_to_the_right_place(
        self, table: ModalityTable, stride: int
    ) -> None:
        pixels = np.zeros((1, 64, 40), np.uint8)
        pixels[0, 8:40, 8:32] = 255

        mask = build_inferer(table, input_size=(128, 128))(
            as_batch(pixels), BrightIsForeground(table, stride)
        )[0, 0]

        both = ((mask >= 128) & torch.from_numpy(pixels[0] > 0)).sum()
        assert 2 * both / ((mask >= 128).sum() + 32 * 24) > 0.93

    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_reordering_and_flipping_the_axes_of_a_volume_does_so_to_the_mask(
        self, table: ModalityTable, network: BrightIsForeground, order: tuple[int, int, int]
    ) -> None:
        pixels = blobs((20, 14, 5))[0]
        affine = np.array([[0.9, 0, 0, 5], [0, 1.1, 0, -7], [0, 0, 3, 2], [0, 0, 0, 1.0]])
        inferer = build_inferer(table, slice_batch=2)
        result = inferer(as_batch(pixels[None], affine, "ct"), network)[0]

        flipped = np.flip(pixels.transpose(order), axis=1).copy()
        moved = affine[:, [*order, 3]].copy()
        moved[:, 3] += moved[:, 1] * (flipped.shape[1] - 1)
        moved[:, 1] *= -1
        other = inferer(as_batch(flipped[None], moved, "ct"), network)[0]

        expected = result.as_tensor().permute(0, *(axis + 1 for axis in order)).flip(2)
        assert torch.equal(other.as_tensor(), expected)

    def test_l8_slice_batch_does_not_change_the_mask(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        pixels = blobs((12, 10, 7))
        pixels[0, 0, 0] = np.arange(7)  # no slice is like the one before
        image = as_batch(pixels, RAS, "mri")

        one = build_inferer(table, slice_batch=1)(image, network)
        many = build_inferer(table, slice_batch=4)(image, network)

        assert torch.equal(one.as_tensor(), many.as_tensor())
        assert network.batches == [1] * 7 + [4, 3]

    def test_tells_after_each_batch_how_many_slices_are_done(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        inferer, told = build_inferer(table, slice_batch=2), []
        inferer.on_slices = lambda done, total: told.append((done, total))

        inferer(as_batch(blobs((12, 10, 5)), RAS, "mri"), network)

        assert told == [(2, 5), (4, 5), (5, 5)]

    def test_slices_of_uneven_spacing_keep_their_aspect_in_mm(self, table: ModalityTable) -> None:
        """Sagittal slices of 2 mm by 1 mm pixels: half the rows, twice the length."""
        seen: list[Tensor] = []

        class Watching(BrightIsForeground):
            def encode(self, image: Tensor, modality: Tensor | None) -> Tensor:
                seen.append(image)
                return super().encode(image, modality)

        pixels = np.full((1, 3, 32, 16), 255, np.uint8)
        affine = np.diag([5.0, 1.0, 1.0, 1.0])

        build_inferer(table)(as_batch(pixels, affine, "mri"), Watching(table))

        shown = seen[0][0, 0] > 0
        assert shown.any(1).sum() == 16
        assert shown.any(0).sum() == 32

    @pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.float32, np.float64])
    def test_takes_every_pixel_type(
        self, table: ModalityTable, network: BrightIsForeground, dtype: type
    ) -> None:
        pixels = blobs((32, 32))

        result = build_inferer(table)(as_batch(pixels.astype(dtype)), network)

        expected = build_inferer(table)(as_batch(pixels), network)
        assert torch.equal(result.as_tensor(), expected.as_tensor())

    def test_image_of_one_pixel_gets_one_pixel(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        result = build_inferer(table)(as_batch(np.full((1, 1, 1), 255, np.uint8)), network)

        assert result.flatten().tolist() == [255]

    def test_stretching_fills_the_input(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        pixels = blobs((64, 32))

        result = build_inferer(table, resize="stretch")(as_batch(pixels), network)

        assert result.shape == (1, 1, 64, 32)


class TestTargets:
    def test_come_in_table_order_whatever_the_order_asked(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        image = as_batch(blobs((16, 16, 3)), RAS, "ct")
        everything = build_inferer(table, targets="all")(image, network)

        chosen = build_inferer(table, targets=["pancreas", "liver"])(image, network)

        assert segmentation_of(chosen.meta).targets == ("liver", "pancreas")
        assert torch.equal(chosen.as_tensor(), everything.as_tensor()[:, [0, 2]])

    def test_are_those_that_are_ready_where_none_is_named(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        found = build_inferer(table)(as_batch(blobs((16, 16, 3)), RAS, "ct"), network)

        ready = tuple(target.name for target in table["ct"].targets if target.tier == "ready")
        assert segmentation_of(found.meta).targets == ready
        assert 0 < len(ready) < len(table["ct"].targets)

    def test_confidence_is_the_mean_probability_inside_the_mask(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        result = build_inferer(table)(as_batch(blobs((40, 30))), network)

        inside = result.as_tensor()[result.as_tensor() >= 128].double()
        (confidence,) = segmentation_of(result.meta).confidence
        assert confidence == pytest.approx(float(inside.mean()) / 255)

    def test_confidence_of_an_empty_mask_is_none(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        result = build_inferer(table)(as_batch(np.zeros((1, 9, 9), np.uint8)), network)

        assert segmentation_of(result.meta).confidence == (None,)

    def test_target_that_the_network_lacks_is_refused(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        network.targets = {**network.targets, "xray": ["ribs"]}

        with pytest.raises(TargetError, match=r"for xray \(ribs\); got lungs"):
            build_inferer(table)(as_batch(blobs((9, 9))), network)

    def test_modality_that_the_network_lacks_is_refused(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        network.modalities = {"ct": 6}

        with pytest.raises(ModalityError, match=r"\(ct\); got 'xray'"):
            build_inferer(table)(as_batch(blobs((9, 9))), network)


class TestMeta:
    def test_plain_meta_stays_plain(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        result = build_inferer(table)(as_batch(blobs((9, 9))), network)

        assert isinstance(result.meta[IMAGE_KEY], Image)
        assert result.meta["space"] == "RAS"
        assert not result.is_batch

    def test_batched_meta_stays_batched(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        one = as_batch(blobs((9, 12)))
        batch = MetaTensor(
            torch.cat([one.as_tensor()] * 2), meta={IMAGE_KEY: [one.meta[IMAGE_KEY]] * 2}
        )
        batch.is_batch = True

        result = build_inferer(table)(batch, network)

        assert result.shape == (2, 1, 9, 12)
        assert result.is_batch
        assert len(result.meta[IMAGE_KEY]) == 2
        assert torch.equal(result.as_tensor()[0], result.as_tensor()[1])

    def test_tensor_without_a_record_is_refused(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        with pytest.raises(TypeError, match="LoadMedicalImaged"):
            build_inferer(table)(torch.zeros(1, 1, 8, 8), network)

    def test_unmeasured_intensities_are_refused(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        with pytest.raises(OptionError, match="MeasureImaged"):
            build_inferer(table)(as_batch(blobs((9, 9)), intensity_range=None), network)


@pytest.mark.gpu
class TestDevices:
    @pytest.mark.parametrize("place", ["cpu", "cuda"])
    def test_gpu_gives_the_mask_of_the_cpu_wherever_the_image_is(
        self, table: ModalityTable, network: BrightIsForeground, place: str
    ) -> None:
        image = as_batch(blobs((60, 50, 7)), RAS, "mri")
        expected = build_inferer(table, device="cpu")(image, network).as_tensor()

        result = build_inferer(table, device="cuda")(image.to(place), network).as_tensor()

        assert result.device.type == "cpu"
        assert (result.int() - expected.int()).abs().max() <= 1


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"input_size": (100, 64)}, r"input_size must be two multiples of 32.*\(100, 64\)"),
            ({"input_size": (64,)}, "input_size must be two multiples"),
            ({"slice_batch": 0}, "slice_batch must be a whole number of at least 1; got 0"),
            ({"resize": "crop"}, "resize must be one of fit, stretch; got 'crop'"),
            ({"slice_axis": "oblique"}, "slice_axis must be one of axial, coronal, sagittal"),
        ],
    )
    def test_bad_values_are_refused(
        self, table: ModalityTable, options: dict[str, object], message: str
    ) -> None:
        with pytest.raises(OptionError, match=message):
            build_inferer(table, **options)

    def test_device_may_be_a_string(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        result = build_inferer(table, device="cpu")(as_batch(blobs((9, 9))), network)

        assert result.device.type == "cpu"

    def test_autocast_is_off_where_a_processor_would_only_emulate_it(
        self, table: ModalityTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(precision, "_processor", dict)

        assert not build_inferer(table, amp=True, device="cpu").amp

    @pytest.mark.parametrize(("asked", "plane"), [(None, "axial"), ("coronal", "coronal")])
    def test_says_which_slices_it_took(
        self, table: ModalityTable, network: BrightIsForeground, asked: str | None, plane: str
    ) -> None:
        image = as_batch(blobs((12, 10, 6)), RAS, "mri")

        result = build_inferer(table, slice_axis=asked)(image, network)

        assert segmentation_of(result.meta).plane == plane

    def test_warns_of_slices_that_nearly_lay_otherwise(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        image = as_batch(blobs((12, 10, 6)), np.diag([1.0, 1.48, 1.0, 1.0]), "mri")

        by_rule, by_word = (
            segmentation_of(build_inferer(table, slice_axis=axis)(image, network).meta).warnings
            for axis in (None, "axial")
        )

        assert "coronal ones are almost as good" in by_rule[0]
        assert by_word == ()

    def test_autocast_gives_nearly_the_same_mask(
        self, table: ModalityTable, network: BrightIsForeground
    ) -> None:
        image = as_batch(blobs((32, 32)))

        exact = build_inferer(table)(image, network).as_tensor() >= 128
        fast = build_inferer(table, amp=True)(image, network).as_tensor() >= 128

        assert (exact != fast).float().mean() < 0.02
