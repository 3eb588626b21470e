from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from esp_medsam.image import SliceJump
from esp_medsam.transforms.slice_jump import slice_jumps


Labels = npt.NDArray[np.uint8]

volumes = hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(0, 2))
axes = st.integers(0, 2)


def cylinder(slices: int = 9) -> Labels:
    volume = np.zeros((12, 12, slices), np.uint8)
    volume[3:9, 3:9] = 1
    return volume


def ball() -> Labels:
    places = np.indices((21, 21, 21)) - 10
    return ((places**2).sum(axis=0) <= 81).astype(np.uint8)


def jump(volume: Labels, axis: int = 2) -> SliceJump:
    (found,) = slice_jumps(volume, [1], axis)
    assert found is not None
    return found


class TestSliceJumps:
    def test_cylinder_does_not_jump(self) -> None:
        assert jump(cylinder()).share == 0.0

    def test_mask_that_grows_or_moves_on_does_not_jump(self) -> None:
        cone, slanted = np.zeros((2, 20, 20, 6), np.uint8)
        for index in range(6):
            cone[: 3 * index + 2, : 3 * index + 2, index] = 1
            slanted[2 * index : 2 * index + 6, 5:9, index] = 1

        assert jump(cone).share == 0.0
        assert jump(slanted).share == 0.0

    @pytest.mark.parametrize("lost", [slice(4, 5), slice(4, 6)])
    def test_slices_without_a_mask_between_equal_ones_are_a_jump_of_1(self, lost: slice) -> None:
        volume = cylinder()
        volume[..., lost] = 0

        assert jump(volume) == SliceJump(share=1.0, index=4)

    def test_half_a_slice_is_half_a_jump(self) -> None:
        volume = cylinder()
        volume[:6, :, 5] = 0

        assert jump(volume) == SliceJump(share=0.5, index=5)

    def test_slice_that_has_more_than_both_neighbors_jumps(self) -> None:
        volume = cylinder()
        volume[:, :, 3] = 1

        assert jump(volume) == SliceJump(share=(144 - 36) / 144, index=3)

    @pytest.mark.parametrize("fault", ["lost", "moved"])
    def test_ball_with_a_faulty_slice_jumps_far_more_than_without(self, fault: str) -> None:
        volume = ball()
        volume[..., 8] = 0 if fault == "lost" else np.roll(volume[..., 8], 6, axis=0)

        assert jump(ball()).share < 0.15
        assert jump(volume).share > 0.45
        assert jump(volume).index == 8

    def test_two_lesions_above_each_other_in_different_places_do_not_jump(self) -> None:
        volume = np.zeros((12, 12, 9), np.uint8)
        volume[:4, :4, :4], volume[8:, 8:, 5:] = 1, 1

        assert jump(volume).share == 0.0

    def test_mask_in_fewer_than_three_slices_has_none(self) -> None:
        volume = cylinder()
        volume[..., 2:] = 0

        assert slice_jumps(volume, [1, 2], 2) == [None, None]

    def test_each_label_is_measured_alone(self) -> None:
        volume = cylinder()
        volume[..., 4] = np.where(volume[..., 4], 2, 0)

        first, second = slice_jumps(volume, [1, 2], 2)

        assert first == SliceJump(share=1.0, index=4)
        assert second is None

    @given(volumes, axes)
    def test_is_a_share_and_lies_inside_the_mask(self, volume: Labels, axis: int) -> None:
        for label, found in zip((1, 2), slice_jumps(volume, [1, 2], axis), strict=True):
            filled = np.flatnonzero(np.moveaxis(volume == label, axis, 0).any(axis=(1, 2)))
            if found is None:
                assert len(filled) == 0 or np.ptp(filled) < 2
            else:
                assert 0.0 <= found.share <= 1.0
                assert filled[0] < found.index < filled[-1]

    @given(volumes, axes)
    def test_flips_and_order_of_the_other_axes_change_nothing(
        self, volume: Labels, axis: int
    ) -> None:
        others = tuple(other for other in range(3) if other != axis)

        found = slice_jumps(volume, [1, 2], axis)

        for flipped in (*((other,) for other in others), others):
            assert slice_jumps(np.flip(volume, flipped), [1, 2], axis) == found
        assert slice_jumps(np.swapaxes(volume, *others), [1, 2], axis) == found

    @given(volumes, axes)
    def test_share_is_the_same_from_the_other_end(self, volume: Labels, axis: int) -> None:
        there, back = (slice_jumps(each, [1, 2], axis) for each in (volume, np.flip(volume, axis)))

        assert [one and one.share for one in there] == [one and one.share for one in back]

    @given(volumes, axes, st.integers(0, 3), st.integers(0, 3))
    def test_empty_slices_at_the_ends_only_move_the_index(
        self, volume: Labels, axis: int, before: int, after: int
    ) -> None:
        width = [(before, after) if other == axis else (0, 0) for other in range(3)]

        for found, plain in zip(
            slice_jumps(np.pad(volume, width), [1, 2], axis),
            slice_jumps(volume, [1, 2], axis),
            strict=True,
        ):
            moved = plain and SliceJump(share=plain.share, index=plain.index + before)
            assert found == moved
