"""Split a datalist by patient."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence

from esp_medsam.errors import OptionError
from esp_medsam.workflows.datalist import SECTIONS


def shares_of(text: str) -> tuple[float, float, float]:
    """Return the fractions of training, validation and test from text such as ``70,15,15``.

    Raises:
        OptionError: If the text is not three numbers of at least 0, with one above 0.
    """
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    whole = sum(shares)
    if len(shares) != len(SECTIONS) or min(shares) < 0 or not 0 < whole < float("inf"):
        msg = f"split must be percentages of {', '.join(SECTIONS)}, such as 70,15,15; got {text}."
        raise OptionError(msg)
    return shares[0] / whole, shares[1] / whole, shares[2] / whole


def sections_of(
    patients: Sequence[str],
    kinds: Sequence[Hashable],
    shares: Sequence[float],
    seed: int,
) -> list[str]:
    """Return the section of each item.

    Patients whose items have the same kinds are split as a group, so that every kind comes close
    to the shares. They are ordered by hashes of seed and patient only, so an additional item
    leaves most others in their sections.

    Args:
        patients: Patient of each item.
        kinds: Kind of each item, such as its set; a patient may have several.
        shares: Share of each of :data:`~esp_medsam.workflows.datalist_check.SECTIONS`.
        seed: Seed of the order.
    """
    of_patient: dict[str, set[Hashable]] = {}
    for patient, kind in zip(patients, kinds, strict=True):
        of_patient.setdefault(patient, set()).add(kind)
    groups: dict[frozenset[Hashable], list[str]] = {}
    for patient in sorted(of_patient, key=lambda name: _draw(name, seed)):
        groups.setdefault(frozenset(of_patient[patient]), []).append(patient)
    section: dict[str, str] = {}
    for group in groups.values():
        counts = _counts(len(group), shares)
        names = [name for name, count in zip(SECTIONS, counts, strict=True) for _ in range(count)]
        section |= dict(zip(group, names, strict=True))
    return [section[patient] for patient in patients]


def _draw(patient: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{patient}".encode("utf-8", "surrogateescape")).digest()


def _counts(total: int, shares: Sequence[float]) -> list[int]:
    """Return integers that sum to ``total``, rounding up the largest remainders first."""
    exact = [total * share for share in shares]
    counts = [int(value + 1e-9) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda place: counts[place] - exact[place])
    for place in by_remainder[: total - sum(counts)]:
        counts[place] += 1
    return counts
