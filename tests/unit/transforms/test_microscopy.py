from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from monai.apps.pathology.transforms.stain.array import NormalizeHEStains
from PIL import Image as PillowImage
from torch import Tensor

from esp_medsam.transforms.microscopy import (
    NormalizeStain,
    ScaleFluorescence,
    is_bright_field,
)


REFERENCE = ((0.5626, 0.2159), (0.7201, 0.8012), (0.4062, 0.5581))
OTHER = ((0.65, 0.27), (0.68, 0.85), (0.33, 0.45))
"""Another laboratory's hematoxylin and eosin."""


def slide(stains: tuple[tuple[float, float], ...] = OTHER, strength: float = 1.0) -> Tensor:
    """Hematoxylin nuclei on eosin, with an empty strip, in the given stains."""
    generator = torch.Generator().manual_seed(0)
    eosin = 0.9 + 0.4 * torch.rand(80, 96, generator=generator)
    hematoxylin = 0.1 * torch.rand(80, 96, generator=generator)
    for row in range(10, 80, 20):
        for column in range(10, 96, 20):
            nucleus = (slice(row - 5, row + 5), slice(column - 5, column + 5))
            hematoxylin[nucleus] += 1.6
            eosin[nucleus] *= 0.2
    amounts = torch.stack((hematoxylin, eosin)) * strength
    amounts[:, :, :16] = 0.0
    return torch.exp(-torch.einsum("cs,shw->chw", torch.tensor(stains), amounts))


def glow(channels: int = 1) -> Tensor:
    """Nuclei that glow on black."""
    image = torch.full((80, 96), 0.02) + 0.01 * torch.rand(80, 96)
    for row in range(10, 80, 20):
        image[row - 4 : row + 4, 20:28] += 0.3
    return image.expand(channels, -1, -1).clone()


@pytest.fixture(scope="module")
def immunohistochemistry() -> Tensor:
    """Hematoxylin and a brown dye, 512 x 512."""
    return read("ihc.png")


def read(name: str) -> Tensor:
    path = Path(skimage.__file__).parent / "data" / name
    pixels = np.asarray(PillowImage.open(path), dtype=np.float32) / 255.0
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], -1).permute(2, 0, 1).contiguous()


class TestIsBrightField:
    def test_is_what_has_a_bright_background(self, immunohistochemistry: Tensor) -> None:
        assert is_bright_field(immunohistochemistry)
        assert is_bright_field(slide())
        assert is_bright_field(1.0 - glow())

    def test_is_not_what_glows(self) -> None:
        assert not is_bright_field(glow())
        assert not is_bright_field(glow(3))
        assert not is_bright_field(read("hubble_deep_field.jpg"))  # no cells, but of their kind

    def test_is_not_a_dense_glow_of_one_color(self) -> None:
        image = torch.zeros(3, 40, 40)
        image[1] = 0.9

        assert not is_bright_field(image)

    def test_counts_the_edge_where_dark_tissue_fills_the_middle(self) -> None:
        image = torch.full((3, 100, 100), 0.9)
        image[:, 5:95, 5:95] = 0.15

        assert is_bright_field(image)

    @pytest.mark.parametrize("factor", [1, 5])
    def test_does_not_depend_on_size(self, factor: int) -> None:
        image = slide().repeat_interleave(factor, 1).repeat_interleave(factor, 2)

        assert is_bright_field(image)
        assert is_bright_field(image[:, :1, :1])


class TestNormalizeStain:
    @pytest.mark.parametrize("strength", [0.7, 1.0, 1.5])
    def test_brings_slides_of_two_laboratories_together(self, strength: float) -> None:
        ours, theirs = slide(REFERENCE), slide(OTHER, strength)

        def difference(first: Tensor, second: Tensor) -> float:
            return float((first - second)[:, :, 16:].abs().mean())

        normalize = NormalizeStain()
        assert difference(normalize(ours), normalize(theirs)) < 0.5 * difference(ours, theirs)

    def test_shows_nuclei_in_hematoxylin(self) -> None:
        result = NormalizeStain()(slide())

        nucleus, eosin = result[:, 30, 30], result[:, 20, 40]
        assert nucleus[2] > nucleus[0]  # blue
        assert eosin[0] > eosin[2]  # pink

    def test_equals_the_transform_of_monai_to_its_rounding(
        self, immunohistochemistry: Tensor
    ) -> None:
        image = immunohistochemistry[:, :300, :300]
        array = (image * 255.0).round().to(torch.uint8).permute(1, 2, 0).numpy()

        theirs = NormalizeHEStains()
        stains = theirs.stain_extractor(array)
        # Hematoxylin, then eosin, as the reference has them: MONAI 1.6.1 finds them swapped.
        theirs.stain_extractor = lambda _: stains[:, ::-1]

        result = NormalizeStain(tolerance=90.0)(image)

        expected = torch.from_numpy(theirs(array)).permute(2, 0, 1)
        assert ((result * 255.0) - expected).abs().max() < 1.01

    def test_the_stains_of_a_large_image_are_those_of_its_thinned_pixels(self) -> None:
        image = slide()
        large = image.repeat_interleave(6, 1).repeat_interleave(6, 2)

        result = NormalizeStain()(large)

        torch.testing.assert_close(result[:, ::6, ::6], NormalizeStain()(image), atol=0.02, rtol=0)

    @pytest.mark.parametrize("kind", ["fluorescence", "one channel", "gray", "empty", "few"])
    def test_leaves_what_it_cannot_normalize(self, kind: str) -> None:
        image = {
            "fluorescence": glow(3),
            "one channel": slide()[:1],
            "gray": slide()[:1].expand(3, -1, -1).clone(),
            "empty": torch.full((3, 20, 20), 0.95),
            "few": torch.cat((torch.full((3, 300, 96), 0.95), slide()[:, 5:6]), dim=1),
        }[kind]

        assert torch.equal(NormalizeStain()(image), image)

    def test_leaves_other_stains(self, immunohistochemistry: Tensor) -> None:
        assert torch.equal(NormalizeStain()(immunohistochemistry), immunohistochemistry)


class TestScaleFluorescence:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize(("gain", "offset"), [(0.5, 0.0), (1.0, 0.05), (2.5, 0.0)])
    def test_shows_any_gain_and_offset_alike(
        self, channels: int, gain: float, offset: float
    ) -> None:
        image = glow(channels)

        result = ScaleFluorescence()(image * gain + offset)

        torch.testing.assert_close(result, ScaleFluorescence()(image), atol=1e-4, rtol=0)
        assert result.max() == 1.0
        assert result.min() == 0.0

    def test_keeps_the_color_of_a_dye(self) -> None:
        image = glow(3) * torch.tensor([0.0, 1.0, 0.5]).view(3, 1, 1)

        result = ScaleFluorescence(percentiles=(0.0, 100.0))(image)

        assert (result[0] == 0).all()
        assert result[1].max() == 1.0

    def test_is_monotone_and_leaves_bright_field_and_noise(
        self, immunohistochemistry: Tensor
    ) -> None:
        image, noise = glow(), torch.full((1, 40, 40), 0.05) + 0.005 * torch.rand(1, 40, 40)

        result = ScaleFluorescence()(image)

        assert (result.flatten()[image.flatten().argsort()].diff() >= 0).all()
        assert torch.equal(ScaleFluorescence()(immunohistochemistry), immunohistochemistry)
        assert torch.equal(ScaleFluorescence()(noise), noise)

    @pytest.mark.parametrize("percentiles", [(5.0, 5.0), (-1.0, 99.0), (1.0, 101.0), (90.0, 10.0)])
    def test_refuses_percentiles_out_of_order(self, percentiles: tuple[float, float]) -> None:
        with pytest.raises(ValueError, match="percentiles must ascend within 0 to 100; got"):
            ScaleFluorescence(percentiles=percentiles)
