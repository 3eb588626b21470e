"""What a run takes: a plan of each part of its input, made when its turn comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from esp_medsam.io.item import Item
from esp_medsam.workflows.left_alone import LeftAlone
from esp_medsam.workflows.refusal import Refusal


@dataclass(frozen=True)
class Plan:
    """The items of a part of the input, and what is left alone there.

    Attributes:
        items: What is to be segmented, sorted by path.
        refused: What cannot be taken, each with the reason.
        others: Files that are no images.
        outputs: Our own outputs of this or an earlier run.
        notes: What is to be known of the input as a whole, without full stops.
        other_modalities: Number of DICOM volumes of other modalities than that of the run, by
            theirs.
        not_named: Names of DICOM volumes that are not the one to take alone.
    """

    items: tuple[Item, ...]
    refused: tuple[Refusal, ...] = ()
    others: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    other_modalities: Mapping[str, int] = field(default_factory=dict)
    not_named: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of results there will be."""
        return len(self.items) + len(self.refused)


class Plans(Iterable[Plan]):
    """The plans of a run, of which those behind the first are made as they are asked for.

    Where there are several, they can be gone through once, and none is held.

    Args:
        first: The first of them in which there is something to take, or refused.
        before: Those before it.
        rest: Makes those behind it; None where there are none.

    Attributes:
        left_alone: What is left alone in the parts that are planned so far.
        is_whole: Whether all parts are planned.
    """

    def __init__(
        self, first: Plan, before: Iterable[Plan] = (), rest: Iterator[Plan] | None = None
    ) -> None:
        self._first: Plan | None = first
        self._rest = rest
        self._planned = len(first)
        self.left_alone = LeftAlone.of(*before, first)
        self.is_whole = rest is None

    def __len__(self) -> int:
        """Return the number of results that there will be of the parts planned so far."""
        return self._planned

    def __iter__(self) -> Iterator[Plan]:
        """Yield the plan of each part, and count what it holds.

        Raises:
            RuntimeError: If there were several, and they were gone through before.
        """
        if self._first is None:
            msg = "The plans of several parts can be read only once; plan again."
            raise RuntimeError(msg)
        if self._rest is None:
            yield self._first
            return
        yield self._take_first()
        while (plan := next(self._rest, None)) is not None:
            self._planned += len(plan)
            self.left_alone.add(plan)
            yield plan
            del plan  # it may be large, and the next one is made now
        self.is_whole = True

    def _take_first(self) -> Plan:
        assert self._first is not None, "just seen"
        first, self._first = self._first, None
        return first

    @property
    def steps(self) -> Iterator[Item | Refusal]:
        """All that there will be a result of: of each part what is refused, then its items."""
        for plan in self:
            yield from plan.refused
            yield from plan.items
            del plan  # see above

    @property
    def items(self) -> Iterator[Item]:
        """The items of all parts."""
        return (item for plan in self for item in plan.items)
