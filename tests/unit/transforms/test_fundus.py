from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.io import imread
from torch import Tensor
from torch.nn.functional import avg_pool2d

from esp_medsam.errors import OptionError
from esp_medsam.transforms.fundus import (
    CropToFieldOfView,
    KeepFieldOfView,
    SubtractLocalAverage,
    field_of_view,
)


slices = st.sampled_from([1, 3]).flatmap(
    lambda channels: hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=24).map(lambda side: (channels, *side)),
        elements=st.floats(0, 1, width=32),
    )
)


def disc(radius: float = 40.0) -> tuple[Tensor, Tensor]:
    """A reddish disc that darkens to one side, and where it is, ``(rows, columns)``."""
    y, x = np.indices((120, 160), dtype=np.float32)
    inside = torch.from_numpy((y - 60) ** 2 + (x - 90) ** 2 < radius**2)
    light = torch.from_numpy(0.3 + 0.004 * (x - 50))
    color = torch.tensor([0.9, 0.5, 0.3]).view(3, 1, 1)
    return color * light * inside + 0.01 * torch.rand(3, 120, 160), inside


@pytest.fixture(scope="module")
def retina() -> Tensor:
    """A picture that ships in scikit-image; its corners are black."""
    picture = imread(Path(skimage.data.__file__).parent / "retina.jpg")[::3, ::3]
    return torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255


class TestFieldOfView:
    def test_is_the_disc(self) -> None:
        image, inside = disc()

        assert (field_of_view(image) ^ inside).sum() < 0.05 * inside.sum()

    def test_is_all_of_an_image_without_a_surround(self) -> None:
        assert field_of_view(0.5 + 0.1 * torch.rand(3, 50, 60)).all()

    def test_is_round_in_a_real_picture(self, retina: Tensor) -> None:
        field = field_of_view(retina)

        assert field.float().mean() == pytest.approx(np.pi / 4, abs=0.03)
        assert not field[[0, 0, -1, -1], [0, -1, 0, -1]].any()


class TestCropToFieldOfView:
    def test_inverse_restores_the_size_exactly(self) -> None:
        image, inside = disc()
        crop = CropToFieldOfView()

        part = crop(image)
        back = crop.inverse(part)

        rows, columns = crop.find(image)
        assert 79 <= part.shape[1] <= 84
        assert 79 <= part.shape[2] <= 84
        assert torch.equal(back.as_tensor()[:, rows, columns], image[:, rows, columns])
        assert back.shape == image.shape
        assert not inside[: rows.start].any()

    def test_image_without_a_surround_stays_whole(self) -> None:
        assert CropToFieldOfView()(torch.rand(3, 9, 11) + 0.3).shape == (3, 9, 11)


class TestKeepFieldOfView:
    def test_clears_the_surround_alone(self) -> None:
        image, _ = disc()

        kept = KeepFieldOfView()(image)

        assert torch.equal(kept, image * field_of_view(image))
        assert (kept[:, :10] == 0).all()

    def test_once_more_changes_nothing_in_a_real_picture(self, retina: Tensor) -> None:
        once = KeepFieldOfView()(retina)

        assert (KeepFieldOfView()(once) != once).float().mean() < 0.002


class TestSubtractLocalAverage:
    def test_takes_uneven_light_away(self) -> None:
        image, _ = disc()

        result = SubtractLocalAverage(gain=1.0)(image)

        assert image[0, 60, 60:120].std() > 0.05
        assert result[0, 60, 60:120].std() < 0.02

    def test_has_no_halo_at_the_edge_of_the_field(self) -> None:
        image, _ = disc()
        even = torch.where(image > 0.1, 0.5, 0.0)

        result = SubtractLocalAverage()(even)

        core = field_of_view(even) & (even[0] > 0)
        torch.testing.assert_close(result[0][core], torch.full_like(result[0][core], 0.5))

    def test_leaves_the_surround(self, retina: Tensor) -> None:
        result = SubtractLocalAverage()(retina)

        outside = ~field_of_view(retina)
        assert torch.equal(result[:, outside], retina[:, outside])

    def test_evens_a_real_picture(self, retina: Tensor) -> None:
        result = SubtractLocalAverage(gain=1.0)(retina)

        def patches(image: Tensor) -> Tensor:
            return avg_pool2d(image[:, 150:320, 100:400], 25)

        assert patches(result).std(dim=(1, 2)).max() < 0.3 * patches(retina).std(dim=(1, 2)).min()

    @pytest.mark.parametrize("name", ["gain", "spread"])
    def test_refuses_nothing_at_all(self, name: str) -> None:
        with pytest.raises(OptionError, match=f"{name} must be above 0; got 0"):
            SubtractLocalAverage(**{name: 0.0})
