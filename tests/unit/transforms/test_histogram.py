from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from esp_medsam.errors import InputNotFoundError, NonFiniteError, OptionError
from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.transforms.histogram import (
    DECILES,
    MeasureHistogram,
    StandardizeHistogram,
    StandardScale,
)


slices = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12).map(lambda side: (1, *side)),
    elements=st.floats(-1000, 4000, width=32),
)
POINTS = ((10.0, 0.0), (200.0, 0.25), (900.0, 1.0))


def record(*, inverted: bool = False) -> Image:
    return Image(path="a", name="a", modality="mri", grid=Grid(shape=(4, 4)), inverted=inverted)


class TestStandardScale:
    def test_is_the_same_for_volumes_that_differ_in_gain(
        self, head: Callable[..., np.ndarray]
    ) -> None:
        one = StandardScale.learn([head()])
        two = StandardScale.learn([head(), head(gain=5.0), np.zeros((1, 3, 3))])

        np.testing.assert_allclose(one.scale, two.scale, atol=1e-5)
        assert one.percentiles == DECILES

    def test_is_kept_in_a_file_that_a_config_names(
        self, head: Callable[..., np.ndarray], tmp_path: Path
    ) -> None:
        scale = StandardScale.learn([head()])
        path = tmp_path / "t1.json"
        path.write_text(scale.to_json())

        assert MeasureHistogram(str(path)).scale == scale

    def test_refuses_files_that_are_none(self, tmp_path: Path) -> None:
        (tmp_path / "picture.json").write_bytes(b"\xff\xd8")

        with pytest.raises(InputNotFoundError, match=r"there is no .*gone\.json"):
            MeasureHistogram(tmp_path / "gone.json")
        for path in (tmp_path, tmp_path / "picture.json"):
            with pytest.raises(OptionError, match="scale must be JSON of percentiles and scale"):
                MeasureHistogram(path)

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"percentiles": 1, "scale": 2}', "[" * 50_000]
    )
    def test_refuses_other_json(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "scale.json").write_text(text)

        with pytest.raises(OptionError, match="must be JSON of percentiles and scale"):
            StandardScale.read(tmp_path / "scale.json")

    def test_refuses_volumes_that_say_nothing(self) -> None:
        with pytest.raises(ValueError, match="one that is not constant"):
            StandardScale.learn([np.zeros((1, 3, 3))])

    @pytest.mark.parametrize(
        ("percentiles", "scale"),
        [((1, 99), (0, 0.5, 1)), ((99, 1), (0, 1)), ((1, 50, 99), (0, 0.6, 0.5)), ((), ())],
    )
    def test_refuses_lists_that_do_not_ascend(self, percentiles: tuple, scale: tuple) -> None:
        with pytest.raises(OptionError, match="must ascend"):
            StandardScale(percentiles=percentiles, scale=scale)

    def test_refuses_a_scale_without_ends(self) -> None:
        with pytest.raises(OptionError, match=r"run from 0 to 1; got 0\.1 to 1"):
            StandardScale(percentiles=(1, 99), scale=(0.1, 1))


class TestMeasureHistogram:
    def test_brings_volumes_to_one_scale(self, head: Callable[..., np.ndarray]) -> None:
        measure = MeasureHistogram(StandardScale.learn([head()]))
        one, five = head(seed=1), head(seed=1, gain=5.0)

        shown = [StandardizeHistogram(measure(v, record()).points)(v[..., 13]) for v in (one, five)]

        np.testing.assert_allclose(*shown, atol=1e-4)

    @pytest.mark.parametrize("inverted", [False, True])
    def test_constant_volume_is_shown_as_an_end(
        self, head: Callable[..., np.ndarray], inverted: bool
    ) -> None:
        pixels = np.full((1, 4, 4), 7, np.int16)
        measure = MeasureHistogram(StandardScale.learn([head()]))

        shown = StandardizeHistogram(measure(pixels, record(inverted=inverted)).points)(pixels)

        assert len(np.unique(shown)) == 1
        assert shown.flat[0] in (0.0, 1.0)

    def test_low_values_that_are_shown_white_turn_the_map(
        self, head: Callable[..., np.ndarray]
    ) -> None:
        measure = MeasureHistogram(StandardScale.learn([head()]))

        points = measure(head(), record(inverted=True)).points

        assert [shown for _, shown in points] == [1 - s for s in measure.scale.scale]

    def test_infinite_intensities_are_refused(self, head: Callable[..., np.ndarray]) -> None:
        measure = MeasureHistogram(StandardScale.learn([head()]))

        with pytest.raises(NonFiniteError, match="must be finite"):
            measure(np.full((1, 4, 4), np.nan, np.float32), record())


class TestStandardizeHistogram:
    @given(pixels=slices)
    def test_equals_numpy(self, pixels: np.ndarray) -> None:
        values, shown = zip(*POINTS, strict=True)

        result = StandardizeHistogram(POINTS)(pixels)

        np.testing.assert_allclose(result, np.interp(pixels, values, shown), atol=1e-6)

    @pytest.mark.parametrize("points", [(), ((1.0, 0.0),), ((1.0, 0.0), (1.0, 1.0))])
    def test_refuses_values_that_do_not_ascend(self, points: tuple) -> None:
        with pytest.raises(OptionError, match="points must be at least two"):
            StandardizeHistogram(points)
