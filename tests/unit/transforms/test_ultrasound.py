from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from monai.data import MetaTensor
from PIL import Image as PillowImage
from torch import Tensor

from esp_medsam.grid import Grid
from esp_medsam.image import IMAGE_KEY, Image, UltrasoundRegion
from esp_medsam.transforms.burned_in import marks_mask
from esp_medsam.transforms.slices import luminance
from esp_medsam.transforms.ultrasound import (
    CropToScan,
    MaskBurnedIn,
    NormalizeGain,
    ReduceSpeckle,
    SuppressDoppler,
    tissue_box,
)


def speckle(rows: int = 120, columns: int = 160) -> Tensor:
    """Gray speckle, a few pixels coarse, with a dark cyst and a bright, soft echo in it."""
    noise = torch.nn.functional.avg_pool2d(torch.randn(1, rows + 4, columns + 4), 5, 1)
    image = (0.35 + 0.25 * noise).clamp(0.03, 1.0)
    image[:, 40:70, 50:90] *= 0.2
    profile = torch.exp(-0.5 * ((torch.arange(rows) - 90) / 4.0) ** 2)
    return (image + 0.6 * profile.view(1, -1, 1)).clamp(0.0, 1.0)


def calliper(image: Tensor, row: int, column: int) -> Tensor:
    """Draw a cross of 9 pixels; return where it is."""
    mask = torch.zeros(image.shape[-2:], dtype=torch.bool)
    mask[row - 4 : row + 5, column] = mask[row, column - 4 : column + 5] = True
    image[:, mask] = 1.0
    return mask


def region(
    rows: tuple[int, int] = (10, 49),
    columns: tuple[int, int] = (20, 99),
    data_type: int = 1,
    spatial_format: int = 1,
) -> UltrasoundRegion:
    return UltrasoundRegion(
        rows=rows, columns=columns, data_type=data_type, spatial_format=spatial_format
    )


@pytest.fixture(scope="module")
def cell() -> Tensor:
    """A gray picture with a soft texture; uint8, 660 x 550."""
    path = Path(skimage.__file__).parent / "data" / "cell.png"
    pixels = np.asarray(PillowImage.open(path), dtype=np.float32)
    return torch.from_numpy(pixels / 255.0)[None]


class TestTissueBox:
    def test_is_that_of_the_tissue_with_its_last_row_and_column(self) -> None:
        spectrum = region((60, 90), data_type=3, spatial_format=3)
        motion = region((90, 110), spatial_format=2)

        box = tissue_box((spectrum, region(), motion), (120, 160))

        assert box == (slice(10, 50), slice(20, 100))

    def test_holds_all_tissue_of_a_split_screen(self) -> None:
        box = tissue_box((region(), region(columns=(110, 150))), (120, 160))

        assert box == (slice(10, 50), slice(20, 151))

    def test_takes_color_flow_where_no_tissue_is_stated(self) -> None:
        flow = region((5, 8), data_type=2)

        assert tissue_box((flow,), (120, 160)) == (slice(5, 9), slice(20, 100))
        assert tissue_box((flow, region()), (120, 160)) == (slice(10, 50), slice(20, 100))

    @pytest.mark.parametrize(
        "regions", [(), (region(data_type=3),), (region(spatial_format=3),), (region((200, 300)),)]
    )
    def test_is_none_without_tissue_in_the_image(
        self, regions: tuple[UltrasoundRegion, ...]
    ) -> None:
        assert tissue_box(regions, (120, 160)) is None

    def test_is_clipped_to_the_image(self) -> None:
        assert tissue_box((region((-3, 500)),), (120, 160)) == (slice(0, 120), slice(20, 100))


class TestCropToScan:
    @pytest.fixture
    def screen(self) -> Tensor:
        image = torch.zeros(1, 200, 256)
        image[:, 40:160, 50:210] = speckle()
        for row in range(10, 190, 12):
            image[:, row : row + 6, 6:30:4] = 0.8
        return image

    @pytest.fixture
    def record(self) -> Image:
        return Image(
            path="a",
            name="a",
            modality="ultrasound",
            grid=Grid(shape=(200, 256)),
            ultrasound_regions=(region(),),
        )

    def test_takes_the_region_that_the_machine_states(self, screen: Tensor, record: Image) -> None:
        crop = CropToScan()

        cropped = crop(MetaTensor(screen, meta={IMAGE_KEY: record}))

        assert torch.equal(cropped.as_tensor(), screen[:, 10:50, 20:100])
        restored = crop.inverse(cropped).as_tensor()
        assert torch.equal(restored[:, 10:50, 20:100], screen[:, 10:50, 20:100])
        assert restored.shape == screen.shape

    def test_takes_no_stated_region_in_what_was_cropped_before(self, record: Image) -> None:
        part = MetaTensor(torch.full((1, 60, 120), 0.5), meta={IMAGE_KEY: record})

        assert CropToScan()(part).shape == part.shape

    def test_finds_a_rectangle_beside_text(self, screen: Tensor) -> None:
        assert CropToScan().find(screen) == (slice(40, 160), slice(50, 210))

    def test_finds_a_fan(self) -> None:
        rows, columns = torch.meshgrid(torch.arange(200), torch.arange(256), indexing="ij")
        radius = torch.hypot(rows + 10.0, columns - 128.0)
        angle = torch.atan2(columns - 128.0, rows + 10.0)
        fan = (radius > 40) & (radius < 190) & (angle.abs() < 0.7)
        image = torch.where(fan, 0.2 + 0.1 * torch.rand(200, 256), torch.zeros(200, 256))[None]

        box = CropToScan().find(image)

        assert fan[box].sum() >= 0.995 * fan.sum()
        assert fan[box].numel() < 0.9 * fan.numel()

    def test_keeps_both_parts_of_a_scan_that_a_cyst_divides(self) -> None:
        image = torch.zeros(1, 120, 160)
        image[:, :60] = 0.2 + 0.1 * torch.rand(60, 160)
        image[:, 100:] = 0.2 + 0.1 * torch.rand(20, 160)

        assert CropToScan().find(image) == (slice(0, 120), slice(0, 160))

    @pytest.mark.parametrize("value", [0.0, 0.02, 0.5])
    def test_takes_all_of_a_constant_image(self, value: float) -> None:
        assert CropToScan()(torch.full((1, 30, 40), value)).shape == (1, 30, 40)


class TestMaskBurnedIn:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_fills_callipers_and_leaves_echoes(self, channels: int) -> None:
        clean = speckle().repeat(channels, 1, 1)
        image = clean.clone()
        drawn = calliper(image, 30, 40) | calliper(image, 70, 120)

        result = MaskBurnedIn()(image)

        assert (result - clean)[:, drawn].abs().mean() < 0.12
        changed = (result != image).any(0)
        assert changed[drawn].all()
        assert changed.sum() < 4 * drawn.sum()
        assert not changed[82:].any()  # the soft echo

    def test_fills_colored_letters_of_any_brightness(self) -> None:
        image = speckle().repeat(3, 1, 1)
        image[:, 20:26, 30:32] = torch.tensor([0.3, 0.3, 0.0]).view(3, 1, 1)

        result = MaskBurnedIn()(image)

        assert (result[0] - result[2])[20:26, 30:32].abs().max() < 0.05

    def test_leaves_color_flow_to_its_own_transform(self) -> None:
        image = speckle().repeat(3, 1, 1)
        image[:, 45:65, 55:85] = torch.tensor([0.5, 0.1, 0.1]).view(3, 1, 1)

        result = MaskBurnedIn()(image)

        assert torch.equal(result[:, 47:63, 57:83], image[:, 47:63, 57:83])

    def test_leaves_images_without_marks(self, cell: Tensor) -> None:
        image = speckle()

        assert torch.equal(MaskBurnedIn()(image), image)
        assert torch.equal(MaskBurnedIn()(cell), cell)

    def test_finds_marks_in_a_real_picture(self, cell: Tensor) -> None:
        image = cell * 0.6
        drawn = calliper(image, 300, 200)

        mask = marks_mask(image, brightness=0.8, contrast=0.35, chroma=0.15)

        assert mask[drawn].all()
        assert mask.sum() < 6 * drawn.sum()


class TestReduceSpeckle:
    def test_smooths_noise_and_keeps_an_edge(self) -> None:
        image = torch.full((1, 60, 80), 0.2)
        image[:, :, 40:] = 0.7
        noisy = image + 0.03 * torch.randn(image.shape)

        result = ReduceSpeckle()(noisy.clamp(0.0, 1.0))

        assert (result - image)[:, :, :36].std() < 0.5 * (noisy - image)[:, :, :36].std()
        assert (result[:, :, 41] - result[:, :, 38]).mean() > 0.45

    def test_keeps_the_mean_and_the_range(self) -> None:
        image = speckle()

        result = ReduceSpeckle()(image)

        assert result.mean() == pytest.approx(float(image.mean()), abs=1e-5)
        assert result.min() >= image.min()
        assert result.max() <= image.max()

    def test_treats_rows_and_columns_alike(self) -> None:
        image = speckle()

        turned = ReduceSpeckle()(image.transpose(1, 2)).transpose(1, 2)

        torch.testing.assert_close(turned, ReduceSpeckle()(image))


class TestNormalizeGain:
    @pytest.mark.parametrize("power", [0.6, 1.0, 1.8])
    def test_brings_the_median_to_the_target(self, power: float) -> None:
        result = NormalizeGain(target=0.3)(speckle() ** power)

        assert result[result > 0.02].median() == pytest.approx(0.3, abs=0.02)

    def test_is_monotone(self, cell: Tensor) -> None:
        result = NormalizeGain()(cell)

        order = cell.flatten().argsort()
        assert (
            result.flatten()[order].diff() >= -1e-6
        ).all()  # rounding differs at the end of a vector

    def test_evens_out_depths_by_option(self) -> None:
        image = speckle()
        faded = image * torch.linspace(1.0, 0.3, 120).view(1, -1, 1)

        result = NormalizeGain(depth=True)(faded)

        def contrast(values: Tensor) -> float:
            return float(values[0, :30].mean() / values[0, 95:].mean())

        assert contrast(faded) / contrast(image) > 1.5
        assert contrast(result) < 0.8 * contrast(faded)

    @pytest.mark.parametrize("target", [0.0, 1.0])
    def test_refuses_a_target_outside_its_range(self, target: float) -> None:
        with pytest.raises(ValueError, match=f"target must be above 0 and below 1; got {target}"):
            NormalizeGain(target=target)


class TestSuppressDoppler:
    @pytest.fixture
    def flow(self) -> tuple[Tensor, Tensor]:
        """Speckle without, and with, a vessel in color."""
        gray = speckle().repeat(3, 1, 1)
        colored = gray.clone()
        colored[:, 45:65, 55:85] = torch.tensor([0.1, 0.2, 0.9]).view(3, 1, 1)
        return gray, colored

    @pytest.mark.parametrize("fill", ["neighborhood", "gray"])
    def test_leaves_no_color_and_nothing_else_changed(
        self, flow: tuple[Tensor, Tensor], fill: str
    ) -> None:
        _, colored = flow

        result = SuppressDoppler(fill=fill)(colored)

        assert (result.amax(0) - result.amin(0)).max() < 1e-4
        same = (result == colored).all(0)
        assert same[:43].all()
        assert same[67:].all()
        assert same.sum() >= same.numel() - 22 * 32

    def test_gray_is_the_luminance(self, flow: tuple[Tensor, Tensor]) -> None:
        _, colored = flow

        result = SuppressDoppler(fill="gray")(colored)

        torch.testing.assert_close(result[0], luminance(colored))

    def test_is_idempotent(self, flow: tuple[Tensor, Tensor]) -> None:
        once = SuppressDoppler()(flow[1])

        assert torch.equal(SuppressDoppler()(once), once)

    def test_leaves_gray_and_tinted_scans(self, flow: tuple[Tensor, Tensor]) -> None:
        gray, _ = flow
        sepia = gray * torch.tensor([1.0, 0.7, 0.3]).view(3, 1, 1)

        for image in (gray, gray[:1], sepia):
            assert SuppressDoppler()(image) is image or torch.equal(SuppressDoppler()(image), image)

    def test_refuses_other_fills(self) -> None:
        with pytest.raises(ValueError, match="fill must be one of neighborhood, gray; got 'black'"):
            SuppressDoppler(fill="black")
