from __future__ import annotations

from pathlib import Path

import pytest
import torch

from esp_medsam.errors import OptionError
from esp_medsam.workflows.unmoved import check_unmoved


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Weights of a shared part and of two modalities, at half precision."""
    names = ("shared.weight", "heads.ct.weight", "heads.mri.weight")
    torch.save({name: torch.full((2,), 0.1).half() for name in names}, tmp_path / "old.pt")
    return tmp_path / "old.pt"


def moved(old: Path, *names: str) -> Path:
    """Return the path of the same weights in float32, with one more, and these changed."""
    weights = {name: value.float() for name, value in torch.load(old).items()}
    for name in names:
        weights[name] = weights[name] + 1e-3
    torch.save({**weights, "heads.ct.new": torch.ones(1)}, old.with_name("new.pt"))
    return old.with_name("new.pt")


class TestUnmoved:
    def test_weights_may_only_be_added(self, old: Path) -> None:
        check_unmoved(moved(old), old)

        with pytest.raises(OptionError, match=r"1 changed, the first heads\.ct\.weight"):
            check_unmoved(moved(old, "heads.ct.weight"), old)

    def test_those_that_were_meant_to_change_may(self, old: Path) -> None:
        check_unmoved(moved(old, "heads.ct.weight"), old, but="*.ct.*")

        with pytest.raises(OptionError, match=r"1 changed, the first heads\.mri\.weight"):
            check_unmoved(moved(old, "heads.ct.weight", "heads.mri.weight"), old, but="*.ct.*")
