"""Validate the options of transforms where they are given."""

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
        name: What the option is called.
        value: What was given.
        least: The smallest number allowed.
        above: What it must exceed.
        most: The largest number allowed.
        below: What it must stay under.

    Raises:
        OptionError: If it is none, or outside.
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
    """Return two percentiles.

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
