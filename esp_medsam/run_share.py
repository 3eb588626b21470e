"""Shares of a run: disjoint parts of an input, each segmented by a run of its own."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass


MOST_SHARES = 100_000
"""Limit for the number of shares; more is a slip."""


@dataclass(frozen=True)
class RunShare:
    """One of several shares of an input.

    Attributes:
        number: Number of the share, from 1.
        count: Number of shares.
    """

    number: int
    count: int

    @classmethod
    def of(cls, text: str) -> RunShare:
        """Return the share that a text such as ``3/8`` names.

        Raises:
            ValueError: If it names none; the text states the rule.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        share = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= share.number <= share.count <= MOST_SHARES:
            msg = f"must be i/N with 1 <= i <= N <= {MOST_SHARES:,}, such as 3/8"
            raise ValueError(msg)
        return share

    def __str__(self) -> str:
        """Return the text that names the share."""
        return f"{self.number}/{self.count}"

    @property
    def name(self) -> str:
        """The share in the name of a file: ``3-of-8``."""
        return f"{self.number}-of-{self.count}"

    def has(self, folder: str, name: str) -> bool:
        """Whether an item is in the share; on every machine and mount, it is in the same one.

        Args:
            folder: Folder of its results below the output folder, with slashes.
            name: Name of its results.
        """
        # macOS may list a name in another normal form than the server that holds it.
        key = unicodedata.normalize("NFC", f"{folder}/{name}")
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1
