"""Slices on their own grid, in place of the network's input size."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from esp_medsam.errors import TooLargeError
from esp_medsam.inferers import slice_wise
from esp_medsam.inferers.resizing import content_size
from esp_medsam.inferers.slice_wise import SliceWiseInferer
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import build_product
from tests.support.inference import as_batch, blobs, build_inferer
from tests.support.networks import BrightIsForeground


class TestContentSize:
    @pytest.mark.parametrize(
        ("shape", "spacing", "expected"),
        [
            ((45, 70), None, (45, 70)),
            ((45, 70), (0.7, 0.7), (45, 70)),
            ((60, 512), (5.0, 0.5), (600, 512)),
            ((7, 3), (0.3, 1.0), (7, 10)),
        ],
    )
    def test_keeps_the_finer_spacing_so_that_no_detail_is_lost(
        self, shape: tuple[int, int], spacing: tuple[float, float] | None, expected: tuple[int, int]
    ) -> None:
        assert content_size(shape, spacing, None, "fit") == expected

    def test_stretched_it_is_the_grid_as_it_is(self) -> None:
        assert content_size((60, 512), (5.0, 0.5), None, "stretch") == (60, 512)


class TestSegment:
    @pytest.fixture
    def inferer(self, table: ModalityTable) -> Callable[..., SliceWiseInferer]:
        return lambda **options: build_inferer(table, input_size="native", **options)

    @pytest.mark.parametrize("size", [(45, 70), (1, 1), (200, 33)])
    def test_every_pixel_is_seen_as_it_is(
        self,
        inferer: Callable[..., SliceWiseInferer],
        network: BrightIsForeground,
        size: tuple[int, int],
    ) -> None:
        pixels = blobs(size)

        result = inferer()(as_batch(pixels), network)

        expected = torch.sigmoid(20 * (torch.from_numpy(pixels).float() / 255 - 0.5))
        torch.testing.assert_close(result[0].as_tensor(), (expected * 255).round().byte())

    def test_a_volume_s_pixels_need_not_be_square(
        self, inferer: Callable[..., SliceWiseInferer], network: BrightIsForeground
    ) -> None:
        pixels = np.zeros((1, 40, 12, 9), np.uint8)
        pixels[0, 10:30, 3:9, 2:7] = 255
        affine = np.diag([1.0, 4.0, 2.0, 1.0])

        mask = inferer(slice_axis="axial")(as_batch(pixels, affine, "mri"), network)[0, 0] >= 128

        assert mask.shape == (40, 12, 9)
        assert torch.equal(mask.as_tensor(), torch.from_numpy(pixels[0] > 0))

    def test_slices_of_another_size_are_not_seen_together(
        self, inferer: Callable[..., SliceWiseInferer]
    ) -> None:
        """A slice's mask must not depend on what it is shown together with."""
        views = [SimpleNamespace(size=size) for size in [(40, 30), (40, 30), (36, 30), (40, 30)]]
        job = SimpleNamespace(slices=SimpleNamespace(spacing=None), path="a.nii", places=[0])

        together = inferer()._together(views, job, torch.device("cpu"))

        assert together == views[:2]

    def test_what_does_not_fit_in_memory_is_refused_with_the_estimate(
        self,
        inferer: Callable[..., SliceWiseInferer],
        network: BrightIsForeground,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("esp_medsam.memory.available_memory", lambda: 10**6)
        rule = "a slice of 45 x 70 pixels with input_size native needs"

        with pytest.raises(TooLargeError, match=rule):
            inferer()(as_batch(blobs((45, 70))), network)

    def test_batches_are_no_larger_than_memory_holds(
        self,
        inferer: Callable[..., SliceWiseInferer],
        network: BrightIsForeground,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(slice_wise, "available_memory", lambda: 3 * 40 * 30 * 1119)
        image = as_batch(blobs((40, 30, 5)), np.diag([1.0, 1.0, 5.0, 1.0]), "mri")

        inferer(slice_batch=4)(image, network)

        assert network.batches == [2, 2, 1]

    @pytest.mark.parametrize("image_encoder", ["tiny_vit", "tic"])
    def test_runs_with_either_encoder(
        self, table: ModalityTable, image_encoder: str, inferer: Callable[..., SliceWiseInferer]
    ) -> None:
        network = build_product(
            {"xray": table["xray"].index}, {"xray": ["lungs"]}, image_encoder=image_encoder
        )

        result = inferer()(as_batch(blobs((45, 70))), network.eval())

        assert result.shape == (1, 1, 45, 70)
