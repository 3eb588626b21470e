"""Slices that look to the network like the one before are not computed again."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esp_medsam.inferers.repeats import Found, Latest, Shown
from esp_medsam.modality import ModalityTable
from tests.support.inference import as_batch, build_inferer
from tests.support.networks import BrightIsForeground


RAS = np.diag([1.0, 1.0, 3.0, 1.0])


def shown(value: float, view: tuple[int, int] = (2, 2)) -> Shown:
    return Shown(torch.full((3, 4, 4), value), (4, 4), view)


def found(values: list[float]) -> Found:
    return Found(
        [torch.full((1, 2, 2), value) for value in values],
        torch.tensor([[value > 1] for value in values]),
        torch.tensor(values),
    )


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=5))
def test_every_slice_gets_what_it_would_get_alone(batches: list[list[int]]) -> None:
    latest, computed = Latest(), 0

    for batch in batches:
        slices = [shown(value) for value in batch]
        places = latest.places(slices)
        new = [i for i, place in enumerate(places) if place and place not in places[:i]]
        computed += len(new)
        whole = latest.expanded(found([batch[i] for i in new]) if new else None, places)
        latest.keep(slices[-1], whole)

        assert [int(one.max()) for one in whole.probabilities] == batch
        assert whole.absent.flatten().tolist() == [value > 1 for value in batch]
        assert whole.scores is not None
        assert whole.scores.tolist() == batch

    flat = [value for batch in batches for value in batch]
    assert computed == 1 + sum(a != b for a, b in pairwise(flat))


@pytest.mark.parametrize(
    "other", [shown(1), shown(0, view=(2, 3)), shown(0)._replace(size=(4, 3)), shown(torch.nan)]
)
def test_another_input_size_or_view_is_another_slice(other: Shown) -> None:
    assert not shown(0).is_same_as(other)
    assert not other.is_same_as(shown(0))


def test_a_slice_on_another_device_is_computed() -> None:
    other = shown(0)._replace(image=torch.empty(3, 4, 4, device="meta"))

    assert not shown(0).is_same_as(other)


def test_what_is_not_a_number_is_always_computed() -> None:
    assert not shown(torch.nan).is_same_as(shown(torch.nan))


class TestOfAVolume:
    @pytest.fixture
    def pixels(self) -> np.ndarray:
        """A volume whose slices are blank, blank, one, one, another, blank."""
        pixels = np.zeros((1, 12, 10, 6), np.uint8)
        pixels[0, 2:6, 3:7, 2:4] = 255
        pixels[0, 5:9, 1:4, 4] = 200
        return pixels

    @pytest.mark.parametrize("slice_batch", [1, 2, 4])
    def test_masks_are_those_of_slices_that_are_computed_each(
        self, table: ModalityTable, pixels: np.ndarray, slice_batch: int
    ) -> None:
        network, all_computed = BrightIsForeground(table), BrightIsForeground(table)
        inferer = build_inferer(table, slice_batch=slice_batch)
        marked = pixels.copy()
        marked[0, 0, 0] = 40 * np.arange(6)  # no slice is like the one before

        found = inferer(as_batch(pixels, RAS, "mri"), network).as_tensor()
        expected = inferer(as_batch(marked, RAS, "mri"), all_computed).as_tensor()

        assert sum(network.batches) == 4
        assert sum(all_computed.batches) == 6
        near = found[..., 4:, 4:, :], expected[..., 4:, 4:, :]  # away from the mark
        assert torch.equal(*near)
        assert found[..., 2].any()

    def test_all_slices_are_counted(self, table: ModalityTable, pixels: np.ndarray) -> None:
        inferer, told = build_inferer(table, slice_batch=4), []
        inferer.on_slices = lambda done, total: told.append((done, total))

        inferer(as_batch(pixels, RAS, "mri"), BrightIsForeground(table))

        assert told == [(4, 6), (6, 6)]
