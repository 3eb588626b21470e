from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from esp_medsam.errors import OptionError
from esp_medsam.inferers import resizing
from esp_medsam.inferers.resizing import content_size, to_content, to_input, to_probability


CPU = torch.device("cpu")


class TestContentSize:
    @pytest.mark.parametrize(
        ("shape", "spacing", "size"),
        [
            ((100, 50), None, (64, 32)),
            ((50, 100), None, (32, 64)),
            ((100, 100), (1.0, 2.0), (32, 64)),  # a pixel twice as wide as high
            ((3, 1000), None, (1, 64)),  # never less than one
            ((101, 67), None, (64, 42)),  # 42.46 to nearest
        ],
    )
    def test_fits_with_the_aspect_kept(
        self, shape: tuple[int, int], spacing: tuple[float, float] | None, size: tuple[int, int]
    ) -> None:
        assert content_size(shape, spacing, (64, 64), "fit") == size

    def test_stretching_takes_the_whole_input(self) -> None:
        assert content_size((100, 50), (1.0, 3.0), (64, 96), "stretch") == (64, 96)

    def test_unknown_way_is_refused(self) -> None:
        with pytest.raises(OptionError, match="fit, stretch; got 'crop'"):
            content_size((9, 9), None, (64, 64), "crop")


class TestToContent:
    def test_equals_antialiased_scaling_of_the_window(self) -> None:
        pixels = torch.randint(-1000, 1000, (1, 90, 70), dtype=torch.int16)

        result = to_content([pixels], (40, 30), (-160.0, 240.0), CPU)

        window = ((pixels.float() + 160) / 400).clamp(0, 1)[None]
        expected = F.interpolate(window, (40, 30), mode="bilinear", antialias=True)
        torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)

    def test_bands_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pixels = [torch.randint(0, 255, (3, 90, 70), dtype=torch.uint8) for _ in range(2)]
        whole = to_content(pixels, (40, 30), (0.0, 255.0), CPU)

        monkeypatch.setattr(resizing, "_BAND_ELEMENTS", 7 * 2 * 3 * 70)
        banded = to_content(pixels, (40, 30), (0.0, 255.0), CPU)

        assert torch.equal(banded, whole)


class TestToInput:
    def test_grey_becomes_three_normalized_channels_padded_right_and_below(self) -> None:
        image = to_input(torch.full((2, 1, 3, 5), 0.5), (4, 8), (0.5, 0.25, 0.0), (1.0, 0.5, 0.25))

        assert image.shape == (2, 3, 4, 8)
        assert image[0, :, 0, 0].tolist() == [0.0, 0.5, 2.0]
        assert not image[:, :, 3:].any()
        assert not image[..., 5:].any()


class TestToProbability:
    def test_half_is_foreground(self) -> None:
        assert to_probability(torch.zeros(1, 1, 4, 4), (4, 4), (4, 4), (4, 4)).min() == 128

    @pytest.mark.parametrize("stride", [1, 4])
    @pytest.mark.parametrize("shape", [(11, 17), (100, 70), (40, 24)])
    def test_equals_bilinear_scaling_of_the_content(
        self, monkeypatch: pytest.MonkeyPatch, stride: int, shape: tuple[int, int]
    ) -> None:
        monkeypatch.setattr(resizing, "_BAND_ELEMENTS", 500)
        logits = torch.randn(2, 3, 64 // stride, 64 // stride)

        result = to_probability(logits, (40, 24), (64, 64), shape)

        full = F.interpolate(logits, (64, 64), mode="bilinear")[..., :40, :24]
        expected = F.interpolate(full, shape, mode="bilinear").sigmoid() * 255
        torch.testing.assert_close(result.float(), expected, atol=0.5 + 1e-3, rtol=0)
