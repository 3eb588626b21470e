from __future__ import annotations

import pytest
import torch

from esp_medsam.errors import OptionError
from esp_medsam.workflows.released_protocol import SIDE, released_measures


def square(low: int, high: int) -> torch.Tensor:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[low:high, low:high] = True
    return mask


class TestReleasedMeasures:
    def test_of_pictures_of_its_size_are_its_formulas(self) -> None:
        found, truth = square(100, 200), square(110, 200)

        given = released_measures(found * torch.tensor(255, dtype=torch.uint8), truth)

        assert given.dice == pytest.approx((2 * 8100 + 1) / (10000 + 8100 + 1))
        assert given.iou == pytest.approx((8100 + 1) / (10000 + 1))
        assert (given.precision, given.recall) == (0.81, 1.0)
        assert given.hd == pytest.approx(10 * 2**0.5)

    def test_of_empty_masks_are_one_by_their_smoothing_and_without_a_distance(self) -> None:
        empty = square(0, 0)

        given = released_measures(empty.to(torch.uint8), empty)

        assert given == (1.0, 1.0, None, None, None, False, False)

    def test_threshold_lies_at_one_half(self) -> None:
        truth = square(0, 10)

        below = released_measures(truth * torch.tensor(127, dtype=torch.uint8), truth)
        at = released_measures(truth * torch.tensor(128, dtype=torch.uint8), truth)

        assert (below.found, at.found) == (False, True)
        assert below.dice == pytest.approx(1 / 101)

    def test_pictures_of_other_sizes_are_stretched(self) -> None:
        truth = torch.zeros(64, 32, dtype=torch.bool)
        truth[:32, :16] = True

        given = released_measures(truth * torch.tensor(255, dtype=torch.uint8), truth)

        assert given.dice > 0.95
        assert given.recall == pytest.approx(1.0, abs=0.05)

    def test_what_is_not_labeled_counts_on_neither_side(self) -> None:
        found, truth = square(100, 200), square(100, 150)

        given = released_measures(
            found * torch.tensor(255, dtype=torch.uint8), truth, ~(found & ~truth)
        )

        assert (given.dice, given.hd) == (1.0, 0.0)

    def test_volumes_are_refused(self) -> None:
        volume = torch.zeros(4, 5, 6, dtype=torch.uint8)

        with pytest.raises(OptionError, match=r"protocol.*released.*\(4, 5, 6\)"):
            released_measures(volume, volume > 0)

    def test_a_volume_of_one_slice_is_a_picture(self) -> None:
        truth = square(100, 200)[:, :, None]

        given = released_measures(truth * torch.tensor(255, dtype=torch.uint8), truth)

        assert (given.dice, given.hd) == (1.0, 0.0)
