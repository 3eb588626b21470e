from __future__ import annotations

import torch

from esp_medsam.transforms.box import CropToBox


class TestCropToBox:
    def test_inverse_puts_the_part_back_among_zeros(self) -> None:
        image = torch.rand(3, 6, 7)
        crop = CropToBox(rows=(1, 4), columns=(2, 7))

        part = crop(image)
        back = crop.inverse(part)

        assert part.shape == (3, 3, 5)
        inside = torch.zeros_like(image)
        inside[:, 1:4, 2:7] = 1
        assert torch.equal(back.as_tensor(), image * inside)
