"""Validate the options of transforms when they are given."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import SupportsFloat

from esp_medsam.errors import OptionError


def number_option(
    name: str,
    value: SupportsFloat | str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """Return an option as a finite number within its limits.

    Args:
        name: Name of the option.
        value: Value given.
        least: Smallest number allowed.
        above: Number that the value must exceed.
        most: Largest number allowed.
        below: Number that the value must stay below.

    Raises:
        OptionError: If the value is not a finite number, or outside its limits.
    """
    limits = {"at least": least, "above": above, "at most": most, "below": below}
    stated = {words: limit for words, limit in limits.items() if limit is not None}
    rule = " and ".join(f"{words} {limit:g}" for words, limit in stated.items())
    msg = f"{name} must be {rule or 'a finite number'}; got {value!r}."
    try:
        result = float(value)
    except (TypeError, ValueError) as error:
        raise OptionError(msg) from error
    holds = {
        "at least": least is None or result >= least,
        "above": above is None or result > above,
        "at most": most is None or result <= most,
        "below": below is None or result < below,
    }
    if not isfinite(result) or not all(holds.values()):
        raise OptionError(msg)
    return result


def percentiles_option(name: str, pair: Sequence[float]) -> tuple[float, float]:
    """Return two percentiles after checking them.

    Raises:
        OptionError: If they do not ascend within 0 to 100.
    """
    msg = f"{name} must ascend within 0 to 100; got {pair}."
    try:
        low, high = (float(value) for value in pair)
    except (TypeError, ValueError) as error:
        raise OptionError(msg) from error
    if not 0.0 <= low < high <= 100.0:
        raise OptionError(msg)
    return low, high
