from __future__ import annotations

import pytest
import torch

from esp_medsam.networks import build_released
from esp_medsam.networks.builders import RELEASED_TARGETS
from esp_medsam.networks.key_maps import KeyMap, delightsam, is_delightsam_controller


@pytest.fixture
def key_map() -> KeyMap:
    return KeyMap(
        prefixes={"a": "x", "a.b": "y", "old": None},
        views={".row": ((1, -1), (-1,))},
        stacks={"both": ("x.first", "x.second")},
    )


class TestKeyMap:
    def test_longest_prefix_at_a_dot_counts(self, key_map: KeyMap) -> None:
        theirs = {"a.c": torch.zeros(1), "a.b.c": torch.zeros(1), "a.b": torch.zeros(1)}

        assert list(key_map.to_ours(theirs)) == ["x.c", "y.c", "y"]

    def test_drops_what_is_dropped_on_purpose(self, key_map: KeyMap) -> None:
        assert key_map.is_dropped("old.weight")
        assert not key_map.is_dropped("a.weight")
        assert not key_map.is_dropped("elsewhere.weight")
        assert key_map.to_ours({"old.weight": torch.zeros(1)}) == {}

    @pytest.mark.parametrize("key", ["ab", "b.a", "unknown.weight"])
    def test_unknown_entry_raises(self, key_map: KeyMap, key: str) -> None:
        with pytest.raises(KeyError, match=key):
            key_map.to_ours({key: torch.zeros(1)})

    def test_round_trip_restores_names_shapes_and_values(self, key_map: KeyMap) -> None:
        theirs = {
            "a.row": torch.randn(1, 3),
            "a.b.weight": torch.randn(2, 2),
            "both": torch.randn(2, 4),
        }

        ours = key_map.to_ours(theirs)
        returned = key_map.to_theirs(ours)

        assert {name: tuple(value.shape) for name, value in ours.items()} == {
            "x.row": (3,),
            "y.weight": (2, 2),
            "x.first": (1, 4),
            "x.second": (1, 4),
        }
        assert set(returned) == set(theirs)
        assert all(torch.equal(returned[name], value) for name, value in theirs.items())

    def test_to_theirs_leaves_out_what_has_no_place_there(self, key_map: KeyMap) -> None:
        ours = {"z.weight": torch.zeros(1), "x.first": torch.zeros(1), "x.w": torch.zeros(1)}

        assert list(key_map.to_theirs(ours)) == ["a.w"]


class TestDelightsam:
    def test_ours_to_theirs_to_ours_is_exact(self) -> None:
        ours = build_released("endoscopy").state_dict()
        key_map = delightsam("endoscopy", RELEASED_TARGETS)

        theirs = key_map.to_theirs(ours)
        returned = key_map.to_ours(theirs)

        assert len(theirs) == 504
        assert set(returned) == set(ours)
        assert all(returned[name].shape == value.shape for name, value in ours.items())
        assert all(torch.equal(returned[name], value) for name, value in ours.items())

    def test_query_rows_are_in_the_released_order(self) -> None:
        key_map = delightsam("xray", RELEASED_TARGETS)

        ours = key_map.to_ours({"mask_query.weight": torch.arange(7.0)[:, None]})

        assert {
            name.removeprefix("modality_query."): value.item() for name, value in ours.items()
        } == {
            "targets.dermoscopy.lesion.tokens": 0,
            "targets.xray.lungs.tokens": 1,
            "targets.ultrasound.breast_lesion.tokens": 2,
            "targets.fundus.vessels.tokens": 3,
            "targets.microscopy.nuclei.tokens": 4,
            "targets.endoscopy.polyp.tokens": 5,
            "spare": 6,
        }

    def test_controllers_are_the_80_tensors_that_the_released_training_selects(self) -> None:
        theirs = delightsam("xray", RELEASED_TARGETS).to_theirs(build_released("xray").state_dict())

        owned = [name for name in theirs if is_delightsam_controller(name)]

        assert owned == [name for name in theirs if "med" in name]
        assert len(owned) == 80
        assert sum(theirs[name].numel() for name in owned) == 3_144_202
