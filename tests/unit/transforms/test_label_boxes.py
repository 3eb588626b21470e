"""Boxes of labels do not depend on the order of an array in memory."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from esp_medsam.transforms.label_boxes import label_boxes


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_order_in_memory_changes_nothing(order: tuple[int, ...]) -> None:
    labelmap = np.zeros((4, 5, 6), np.uint8)
    labelmap[1:3, 2:5, 3] = 1
    labelmap[0, 0, 0:6] = 3
    other = np.ascontiguousarray(labelmap.transpose(order)).transpose(np.argsort(order))

    found = label_boxes(other, 4)

    assert found[:2] == [(slice(1, 3), slice(2, 5), slice(3, 4)), None]
    assert found[2] == (slice(0, 1), slice(0, 1), slice(0, 6))
    assert found[3] is None
    assert len(label_boxes(other)) == 3
