"""Detect whether a processor computes in bfloat16 or only emulates it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache

import torch


logger = logging.getLogger(__name__)

_UNITS = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")
"""Names of bfloat16 units on x86 and Arm."""

NO_UNITS = "it has no units for bfloat16"


def has_bfloat16_units(device: str | torch.device) -> bool:
    """Whether a device has units for bfloat16.

    Without such units, bfloat16 is emulated: on a processor with only AVX2, one training step took
    eleven times as long, and inference fifteen to sixty times.

    Args:
        device: The device; one that does not tell, such as MPS, counts as having none.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and any(_processor().get(unit, False) for unit in _UNITS)


@cache
def _processor() -> Mapping[str, object]:
    """Return what torch knows of the processor; before 2.11 it reports only these two features."""
    tell = getattr(torch.cpu, "get_capabilities", None)
    if tell is not None:
        told: Mapping[str, object] = tell()
        return told
    return {
        "amx_bf16": torch.cpu._is_amx_tile_supported(),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
    }


def amp_of(asked: bool | str, device: str | torch.device, *, what: str) -> bool:
    """Return whether to compute under bfloat16 autocast, and log the decision and its reason.

    Args:
        asked: Whether to use autocast; ``auto`` means if the device has bfloat16 units.
        device: Where the network runs.
        what: What is computed, for the log, such as ``training``.
    """
    has_units = has_bfloat16_units(device)
    if asked == "auto":
        why = "which it has units for" if has_units else f"because {NO_UNITS}"
        kind = "bfloat16" if has_units else "float32"
        logger.info("%s on %s in %s, %s.", what.capitalize(), device, kind, why)
        return has_units
    if asked and not has_units:
        logger.warning(
            "%s uses float32 although amp is set: on %s, %s.",
            what.capitalize(),
            device,
            NO_UNITS,
        )
    return bool(asked) and has_units
