"""Slices that look to the network as the one before: blank ones, and frames that stand still."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from esp_medsam.inferers.preparation import View


class Shown(NamedTuple):
    """One slice as the network is shown it.

    Attributes:
        image: ``(3, H, W)``, the whole input.
        size: ``(H, W)`` that the slice occupies in it.
        view: Rows and columns of the slice itself, onto which the output is mapped back.
    """

    image: Tensor
    size: tuple[int, int]
    view: tuple[int, int]

    def is_same_as(self, other: Shown) -> bool:
        """Whether the network's output for both is the same, because nothing differs."""
        same = (self.size, self.view, self.image.device) == (
            other.size,
            other.view,
            other.image.device,
        )
        return same and torch.equal(self.image, other.image)


class Found(NamedTuple):
    """What the network's output says of slices.

    Attributes:
        probabilities: For each slice ``(T, rows, columns)`` uint8, on its view.
        absent: Which targets are absent, bool ``(B, T)`` or ``(B, 0)``.
        scores: How plausible the slices are, ``(B,)``; None if that is not known.
    """

    probabilities: list[Tensor]
    absent: Tensor
    scores: Tensor | None

    def of(self, places: Sequence[int]) -> Found:
        """Return what is found of the slices at some places, which may occur several times."""
        return Found(
            [self.probabilities[place] for place in places],
            self.absent[list(places)],
            None if self.scores is None else self.scores[list(places)],
        )


class Latest:
    """The latest slice of an image, and what was found in it."""

    def __init__(self) -> None:
        self._shown: Shown | None = None
        self._found: Found | None = None

    def places(self, slices: Sequence[Shown]) -> list[int]:
        """Return which different slice each slice is: 0 is the latest one, 1 the first new one."""
        before, place, places = self._shown, 0, []
        for one in slices:
            if before is None or not one.is_same_as(before):
                place += 1
            places.append(place)
            before = one
        return places

    def expanded(self, found: Found | None, places: Sequence[int]) -> Found:
        """Return what is found of all slices of a batch.

        Args:
            found: What is found of the new ones; None if there are none.
            places: As :meth:`places` returned them.
        """
        parts = [one for one in (self._found, found) if one is not None]
        first = 0 if self._found is not None else 1  # without a latest slice, the first one is new
        return _joined(parts).of([place - first for place in places])

    def keep(self, shown: Shown, found: Found) -> None:
        """Keep the last slice of a batch."""
        self._shown, self._found = shown, found.of([len(found.probabilities) - 1])


def shown_of(image: Tensor, sizes: Sequence[tuple[int, int]], views: Sequence[View]) -> list[Shown]:
    """Return the slices of a batch as the network is shown them; arguments as of the inferer."""
    return [
        Shown(one, size, view.size) for one, size, view in zip(image, sizes, views, strict=True)
    ]


def _joined(parts: Sequence[Found]) -> Found:
    scores = [one.scores for one in parts if one.scores is not None]
    return Found(
        [probability for one in parts for probability in one.probabilities],
        torch.cat([one.absent for one in parts]),
        torch.cat(scores) if scores else None,
    )
