"""Segment again what a reader marked as failed, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from esp_medsam.errors import EmptyInputError, listed, quoted
from esp_medsam.identity import sha256_of
from esp_medsam.io.item import Item
from esp_medsam.workflows.item_names import item_name, plain_text
from esp_medsam.workflows.plan import Plan
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.verdicts import FAIL, Verdict


class Rerun:
    """The items of a run whose results a reader marked as failed.

    A verdict is on one result. If it was made anew since, the verdict says nothing about it, so a
    rerun that was interrupted goes on where it stopped.

    Args:
        verdicts: The verdicts, of this folder of results and maybe of others.
        root: Folder of the input.
        output: Folder of results.

    Raises:
        EmptyInputError: If no verdict on a result of this folder is ``fail``.
    """

    def __init__(self, verdicts: Sequence[Verdict], root: Path, output: Path) -> None:
        self._root, self._output = str(root), output
        failed = [one for one in _of_folder(verdicts, output) if one.verdict == FAIL]
        if not failed:
            msg = (
                "rerun must hold a verdict `fail` on a result of this folder; of "
                f"{len(verdicts)} verdicts, none is."
            )
            raise EmptyInputError(msg)
        self._by_record = {one.record: one for one in failed if one.record}
        self._by_item = {one.item: one for one in failed}
        self._met: set[Verdict] = set()
        self._made_anew: list[Verdict] = []
        self._failed = failed

    def narrowed(self, plan: Plan) -> Plan:
        """Return a plan of the items alone that are segmented again, under their results' names."""
        items = [chosen for item in plan.items if (chosen := self._chosen(item)) is not None]
        refused = [one for one in plan.refused if self._named(one) is not None]
        return replace(plan, items=tuple(items), refused=tuple(refused))

    @property
    def meets_nothing(self) -> bool:
        """Whether no verdict is on an item of what was planned so far."""
        return not self._met

    @property
    def notes(self) -> list[str]:
        """What verdicts were on and is not segmented again, a line for each reason."""
        unknown = [quoted(one.item or one.record) for one in self._failed if one not in self._met]
        anew = [quoted(one.item) for one in self._made_anew]
        told = []
        if unknown:
            told.append(f"`rerun` names what the input does not hold: {listed(unknown)}.")
        if anew:
            told.append(
                f"Results that were made anew since they were marked are kept: {listed(anew)}."
            )
        return told

    def _chosen(self, item: Item) -> Item | None:
        for name in (item.name, *item.other_names):
            record = PurePosixPath(item.relative_dir, f"{name}_seg.json")
            verdict = self._by_record.get(plain_text(str(record)))
            # Another image may have had the name: its result is not this one's to replace.
            is_own = verdict is not None and verdict.item == item_name(item.label, self._root)
            if verdict is None or (name != item.name and not is_own):
                continue
            self._met.add(verdict)
            if not self._is_judged(self._output / record, verdict):
                self._made_anew.append(verdict)
                return None
            return replace(item, name=name)
        verdict = self._named(item, only_without_result=True)
        return None if verdict is None else item

    def _named(self, step: Item | Refusal, *, only_without_result: bool = False) -> Verdict | None:
        """Return the verdict on an item of this name, which may have no result."""
        verdict = self._by_item.get(item_name(step.label, self._root))
        if verdict is None or (only_without_result and verdict.record):
            return None
        self._met.add(verdict)
        return verdict

    def _is_judged(self, record: Path, verdict: Verdict) -> bool:
        """Whether a result is the one that a verdict is on, or is gone."""
        if not verdict.record_sha256:
            return True
        try:
            return sha256_of(record).startswith(verdict.record_sha256)
        except OSError:
            return True


def _of_folder(verdicts: Sequence[Verdict], output: Path) -> list[Verdict]:
    """Return the verdicts on results of a folder; those of a single one are, whatever its name."""
    if len({one.folder for one in verdicts}) <= 1:
        return list(verdicts)
    parts = tuple(map(plain_text, output.resolve().parts))
    own = []
    for one in verdicts:
        stated = PurePosixPath(one.folder).parts
        if not stated or parts[-len(stated) :] == stated:
            own.append(one)
    return own
