from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image as PillowImage
from skimage.draw import line
from torch import Tensor

from esp_medsam.transforms.dermoscopy import (
    CropDarkRim,
    FillDarkCorners,
    RemoveHair,
    ShadesOfGray,
)
from esp_medsam.transforms.hair import hair_mask
from esp_medsam.transforms.inpainting import dilated
from esp_medsam.transforms.vignette import dark_corners


SKIN = torch.tensor([0.8, 0.6, 0.5]).view(3, 1, 1)


def skin(rows: int = 180, columns: int = 240) -> Tensor:
    """Skin with a dark lesion of 30 pixels' radius in the middle."""
    image = SKIN + 0.01 * torch.randn(1, rows, columns)
    image[:, distance(rows, columns) < 30] *= 0.4
    return image.clamp(0.0, 1.0)


def distance(rows: int, columns: int) -> Tensor:
    """Distance of each pixel from the center."""
    down, right = torch.meshgrid(
        torch.arange(rows) - rows / 2, torch.arange(columns) - columns / 2, indexing="ij"
    )
    return torch.hypot(down, right)


def with_hairs(image: Tensor) -> tuple[Tensor, Tensor]:
    """Draw three hairs, two pixels wide; return the image and where they are."""
    mask = torch.zeros(image.shape[-2:], dtype=torch.bool)
    for ends in ((10, 5, 60, 230), (170, 20, 100, 200), (5, 40, 175, 60)):
        rows, columns = line(*ends)
        mask[rows, columns] = mask[rows + 1, columns] = mask[rows, columns + 1] = True
    return torch.where(mask, torch.tensor([0.2, 0.15, 0.1]).view(3, 1, 1), image), mask


@pytest.fixture(scope="module")
def stained() -> Tensor:
    """Stained tissue: a picture full of thin dark structures that are no hairs."""
    path = Path(skimage.__file__).parent / "data" / "ihc.png"
    pixels = np.asarray(PillowImage.open(path).convert("RGB"), dtype=np.float32)
    return torch.from_numpy(pixels / 255.0).permute(2, 0, 1).contiguous()


class TestShadesOfGray:
    @pytest.mark.parametrize("power", [1.0, 6.0, 20.0])
    def test_undoes_the_color_of_the_light(self, power: float, stained: Tensor) -> None:
        light = torch.tensor([0.9, 0.7, 0.5]).view(3, 1, 1)
        transform = ShadesOfGray(power=power)

        neutral, colored = transform(stained * 0.5), transform(stained * 0.5 * light)

        # Up to one factor for all channels: the light's brightness is not its color.
        ratio = neutral.mean((1, 2)) / colored.mean((1, 2))
        torch.testing.assert_close(ratio, ratio[:1].expand(3), rtol=1e-4, atol=0)

    def test_follows_its_formula(self) -> None:
        image = torch.rand(3, 20, 30) * 0.5

        result = ShadesOfGray(power=3.0)(image)

        light = image.pow(3).mean((1, 2)).pow(1 / 3)
        expected = image * (light.norm() / (3**0.5 * light)).view(3, 1, 1)
        torch.testing.assert_close(result, expected)

    def test_is_idempotent_where_nothing_is_clipped(self, stained: Tensor) -> None:
        once = ShadesOfGray()(stained * 0.5)

        torch.testing.assert_close(ShadesOfGray()(once), once)

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
    def test_leaves_gray_images(self, channels: int, value: float) -> None:
        image = torch.full((channels, 8, 9), value)

        torch.testing.assert_close(ShadesOfGray()(image), image)

    def test_refuses_a_power_below_one(self) -> None:
        with pytest.raises(ValueError, match=r"power must be at least 1; got 0\.5"):
            ShadesOfGray(power=0.5)


class TestRemoveHair:
    def test_finds_hairs_and_gives_the_skin_back(self) -> None:
        bald = skin()
        image, hairs = with_hairs(bald)

        result = RemoveHair()(image)

        assert (result[:, hairs] - bald[:, hairs]).abs().mean() < 0.05
        assert (image[:, hairs] - bald[:, hairs]).abs().mean() > 0.3

    def test_changes_only_what_is_next_to_hairs(self) -> None:
        image, hairs = with_hairs(skin())

        result = RemoveHair()(image)

        changed = (result != image).any(0)
        assert not (changed & ~dilated(hairs, 3)).any()

    def test_leaves_a_lesion_its_edge_dots_and_mesh(self) -> None:
        image = skin()
        image[:, 20:26, 30:36] *= 0.3
        for step in range(0, 40, 8):  # a pigment network: a mesh of 8 pixels
            image[:, 120 + step, 170:210] *= 0.6
            image[:, 120:160, 170 + step] *= 0.6

        assert torch.equal(RemoveHair()(image), image)

    def test_lightens_what_it_changes_in_a_real_picture(self, stained: Tensor) -> None:
        mask = hair_mask(stained, threshold=0.12, length=0.08)

        result = RemoveHair()(stained)

        assert mask.any()
        assert torch.equal(result[:, ~mask], stained[:, ~mask])
        assert result[:, mask].mean() > stained[:, mask].mean() + 0.02

    def test_large_photographs_are_searched_on_a_coarser_grid(self) -> None:
        image, hairs = with_hairs(skin())
        large, mask = (
            part.repeat_interleave(6, -2).repeat_interleave(6, -1) for part in (image, hairs)
        )

        result = RemoveHair()(large)

        assert result.shape == large.shape
        assert (result[:, mask] - large[:, mask]).mean() > 0.25

    def test_finds_none_in_a_darker_image_that_it_does_not_find_in_a_lighter(self) -> None:
        image, _ = with_hairs(skin())

        light, dark = (hair_mask(image * f, threshold=0.12, length=0.08) for f in (1.0, 0.5))

        assert (light != dark).float().mean() < 0.002


class TestCropDarkRim:
    def test_keeps_all_of_a_round_field(self) -> None:
        image = skin()
        field = distance(180, 240) < 80
        image[:, ~field] = 0.02
        crop = CropDarkRim()

        cropped = crop(image)

        rows, columns = crop.find(image)
        assert field[rows, columns].sum() == field.sum()
        assert cropped.shape[1] <= 164
        assert cropped.shape[2] <= 164
        restored = crop.inverse(cropped).as_tensor()
        assert torch.equal(restored[:, field], image[:, field])
        assert restored.shape == image.shape

    def test_leaves_rulers_and_lesions_at_the_edge(self) -> None:
        image = skin()
        image[:, :, :6] = 0.03  # black along all of a side, but on skin
        image[:, 10:170:12, 6:20] = 0.03
        image[:, 120:180, 150:240] = 0.05

        rows, columns = CropDarkRim().find(image)

        assert rows == slice(0, 180)
        assert columns.start <= 6
        assert columns.stop == 240


class TestFillDarkCorners:
    def test_fills_the_corners_and_nothing_else(self) -> None:
        image = skin()
        outside = distance(180, 240) > 120
        image[:, outside] = 0.05

        result = FillDarkCorners()(image)

        assert (result[:, outside] - SKIN[:, 0]).abs().max() < 0.1
        assert torch.equal(result[:, ~outside], image[:, ~outside])

    def test_leaves_rulers_and_lesions(self) -> None:
        image = skin()
        outside = distance(180, 240) > 120
        image[:, outside] = 0.05
        image[:, 20:160:10, 10:18] = 0.05
        image[:, 80:90, 180:230] = 0.1

        result = FillDarkCorners()(image)

        inside = distance(180, 240) < 116
        assert torch.equal(result[:, inside], image[:, inside])
        assert result[:, 0, 0].mean() > 0.5

    @pytest.mark.parametrize(
        "corner", [(slice(0, 60), slice(0, 60)), (slice(0, 40), slice(0, 240))]
    )
    def test_leaves_what_is_no_round_field(self, corner: tuple[slice, slice]) -> None:
        image = skin()
        image[(slice(None), *corner)] = 0.05

        assert torch.equal(FillDarkCorners()(image), image)

    def test_leaves_pictures_without_dark_corners(self, stained: Tensor) -> None:
        assert dark_corners(stained) is None
        assert torch.equal(FillDarkCorners()(stained), stained)
