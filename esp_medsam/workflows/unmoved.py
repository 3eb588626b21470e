"""Verify that training changed no weight that it should not."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import torch

from esp_medsam.errors import OptionError
from esp_medsam.networks.state_dicts import load_checkpoint


def check_unmoved(grown: Path, old: Path, but: str | None = None) -> None:
    """Require that new weights contain all old ones, exactly at half precision.

    Args:
        grown: Weights that were trained on top of the old ones.
        old: Weights that training started from.
        but: Pattern of the names of parameters that were meant to change.

    Raises:
        CheckpointError: If a file is not a checkpoint.
        OptionError: If any old weight changed.
    """
    new = load_checkpoint(grown)
    moved = [
        name
        for name, value in load_checkpoint(old).items()
        if (but is None or not fnmatchcase(name, but))
        and (name not in new or not torch.equal(_half(new[name]), _half(value)))
    ]
    if moved:
        msg = (
            f"frozen must match all parameters of the old weights; {len(moved)} changed, the "
            f"first {moved[0]}. Leave frozen and trained out of `config`."
        )
        raise OptionError(msg)


def _half(value: torch.Tensor) -> torch.Tensor:
    return value.half() if value.is_floating_point() else value
