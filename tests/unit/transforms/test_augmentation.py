from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.transforms import RandAffined, RandAxisFlipd, RandRotate90d, RandScaleIntensityd

from esp_medsam.transforms.augmentation import RULES, augmentation
from esp_medsam.transforms.random_window import RandomWindow


MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def kinds(modality: str) -> list[type]:
    return [type(t) for t in augmentation(modality, (32, 32), MEAN, STD).transforms]


def data() -> dict[str, Any]:
    image, label = torch.zeros(3, 24, 32), torch.zeros(2, 24, 32, dtype=torch.uint8)
    image[:, 4:16, 8:20], label[0, 4:16, 8:20] = 1.0, 1
    return {"image": image, "label": label}


class TestAugmentation:
    @pytest.mark.parametrize("modality", ["ct", "mri", "xray", "ultrasound", "users_own"])
    def test_never_mirrors_or_quarter_turns_where_sides_mean_something(self, modality: str) -> None:
        assert not {RandAxisFlipd, RandRotate90d} & set(kinds(modality))

    @pytest.mark.parametrize("modality", ["ct", "mri", "xray", "ultrasound"])
    def test_has_no_color_jitter_where_there_is_no_color(self, modality: str) -> None:
        assert kinds(modality).count(RandScaleIntensityd) == 1  # the gain of all channels alike

    @pytest.mark.parametrize("modality", [*RULES, "mri"])
    def test_gives_finite_views_of_the_input_size_with_binary_labels(self, modality: str) -> None:
        view = augmentation(modality, (32, 64), MEAN, STD)(data())

        assert view["image"].shape == (3, 32, 64)
        assert view["label"].shape == (2, 32, 64)
        assert torch.isfinite(view["image"]).all()
        assert set(view["label"].unique().tolist()) <= {0, 1}

    def test_a_rotation_moves_image_and_label_alike(self) -> None:
        views = augmentation("dermoscopy", (64, 64), MEAN, STD)
        views.set_random_state(0)

        for _ in range(5):
            view = views(data())
            bright = view["image"][0] > 0.5 * view["image"][0].max()
            label = view["label"][0] > 0
            assert (bright & label).sum() / (bright | label).sum() > 0.6

    def test_without_random_the_slice_is_only_centered_and_normalized(self) -> None:
        views = augmentation("fundus", (32, 32), MEAN, STD, random=False)

        view = views(data())

        assert [type(t) for t in views.transforms][-1] is RandAffined
        assert view["label"][0].sum() == 12 * 12
        assert view["image"].max() == pytest.approx(2.0)
        assert view["image"][:, :4].abs().max() < 1e-6  # padding is 0 after normalizing


class TestRandomWindow:
    def test_shows_the_window_itself_where_nothing_moves(self) -> None:
        image = torch.tensor([0.0, 0.2, 0.4, 0.7, 1.0])

        shown = RandomWindow()({"image": image, "window": (0.2, 0.7)})

        assert set(shown) == {"image"}
        torch.testing.assert_close(shown["image"], torch.tensor([0.0, 0.0, 0.4, 1.0, 1.0]))

    def test_edges_move_by_no_more_than_the_shift_and_no_further_than_what_is_kept(self) -> None:
        window = RandomWindow(0.25, prob=1.0)
        window.set_random_state(0)
        image = torch.linspace(0.0, 1.0, 1001)
        edges = []
        for _ in range(200):
            shown = window({"image": image, "window": (0.1, 0.7)})["image"]
            edges.append((float(image[shown > 0][0]), float(image[shown < 1][-1])))

        low, high = zip(*edges, strict=True)
        assert min(low) < 0.01
        assert 0.2 < max(low) <= 0.252
        assert 0.548 <= min(high) < 0.6
        assert 0.8 < max(high) <= 0.85

    def test_moves_as_often_as_it_should_and_the_same_for_the_same_seed(self) -> None:
        image = torch.linspace(0.0, 1.0, 101)
        views = []
        for _ in range(2):
            window = RandomWindow(0.25, prob=0.5)
            window.set_random_state(3)
            views.append([window({"image": image})["image"] for _ in range(100)])

        assert all(torch.equal(one, other) for one, other in zip(*views, strict=True))
        assert 20 < sum(torch.equal(view, image) for view in views[0]) < 80

    def test_only_ct_is_shown_through_other_windows(self) -> None:
        moving = {modality for modality, rule in RULES.items() if rule.window}
        assert moving == {"ct"}
