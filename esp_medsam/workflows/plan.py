"""Plans of what a run takes, one for each part of the input, made when its turn comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from esp_medsam.io.item import Item
from esp_medsam.workflows.left_alone import LeftAlone
from esp_medsam.workflows.refusal import Refusal


@dataclass(frozen=True)
class Plan:
    """Items of a part of the input, and whatever is left alone there.

    Attributes:
        items: Items to segment, sorted by path.
        refused: Refusals of what cannot be taken, each with the reason.
        others: Files that are not images.
        outputs: Our own outputs of this or an earlier run.
        notes: Facts about the input as a whole, without full stops.
        other_modalities: Number of DICOM volumes of modalities other than the run's, by modality.
        not_named: Names of DICOM volumes that are not the requested one.
        of_other_shares: Number of results that are left to the runs of other shares.
    """

    items: tuple[Item, ...]
    refused: tuple[Refusal, ...] = ()
    others: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    other_modalities: Mapping[str, int] = field(default_factory=dict)
    not_named: tuple[str, ...] = ()
    of_other_shares: int = 0

    @property
    def holds_any(self) -> bool:
        """Whether the part has any result, of this share or another."""
        return len(self) + self.of_other_shares > 0

    def __len__(self) -> int:
        """Return the number of results of the plan."""
        return len(self.items) + len(self.refused)


class Plans(Iterable[Plan]):
    """Plans of a run; the plans after the first are made on demand.

    Several plans can be iterated over only once, and none is kept.

    Args:
        first: The first plan that has something to take, or a refusal.
        before: Plans before ``first``.
        rest: Iterator that makes the plans after ``first``; None if there are none.

    Attributes:
        left_alone: Everything left alone in the parts planned so far.
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
        """Return the number of results of the parts planned so far."""
        return self._planned

    def is_long(self, pictures: int) -> bool:
        """Whether so much is planned so far: a volume, or a number of pictures.

        Args:
            pictures: The number.
        """
        items = () if self._first is None else self._first.items
        return not self.is_whole or len(items) >= pictures or any(i.is_volume for i in items)

    def __iter__(self) -> Iterator[Plan]:
        """Yield the plan of each part, and count its content.

        Raises:
            RuntimeError: If there are several plans, and they were iterated over before.
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
            del plan  # it may be large, and the next plan is made now
        self.is_whole = True

    def narrowed(self, narrow: Callable[[Plan], Plan]) -> Plans:
        """Return plans of which a function takes away some items; these are then used up."""
        assert self._first is not None, "nothing was taken from them yet"
        plans = Plans(narrow(self._first), rest=self._rest and map(narrow, self._rest))
        plans.left_alone = self.left_alone
        return plans

    def _take_first(self) -> Plan:
        assert self._first is not None, "just seen"
        first, self._first = self._first, None
        return first

    @property
    def steps(self) -> Iterator[Item | Refusal]:
        """Everything that has a result: for each part its refusals, then its items."""
        for plan in self:
            yield from plan.refused
            yield from plan.items
            del plan  # see above

    @property
    def items(self) -> Iterator[Item]:
        """Items of all parts."""
        return (item for plan in self for item in plan.items)
