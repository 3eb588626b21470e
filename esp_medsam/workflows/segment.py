"""Segment many items with one pipeline; a failed item never ends the run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esp_medsam.allocator import reuse_memory
from esp_medsam.errors import DiskFullError, EspMedSamError
from esp_medsam.image import image_of, segmentation_of
from esp_medsam.io.atomic import clear_temporaries, is_ours, remove_file
from esp_medsam.io.item import Item
from esp_medsam.io.output_formats import check_can_hold
from esp_medsam.modality import ModalityTable
from esp_medsam.run_share import RunShare
from esp_medsam.workflows.item_loop import each_alone, results_of
from esp_medsam.workflows.left_alone import LeftAlone
from esp_medsam.workflows.plan import Plans
from esp_medsam.workflows.refusal import Refusal
from esp_medsam.workflows.results import (
    ItemResult,
    Outcome,
    Tally,
    failure,
    log_end,
    logged,
    not_tried_text,
)
from esp_medsam.workflows.retries import Each, Retries


if TYPE_CHECKING:  # building needs MONAI, driving does not
    from esp_medsam.io.result_plan import ResultPlan, ResultPlanner
    from esp_medsam.workflows.engine import Pool
    from esp_medsam.workflows.journal import Journal


logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Planned(Outcome):
    """What would be done with one item: ``to do``, ``kept`` or ``failed``.

    Attributes:
        modality: Modality that it would be segmented as; None if it failed.
        targets: Names of the targets.
        files: Files of the result, the record last; of formats that depend on the image, some
            may not be written.
    """

    statuses = ("to do", "kept", "failed")

    modality: str | None = None
    targets: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def details(self) -> str:
        """Modality, targets and record."""
        return f" as {self.modality}, {', '.join(self.targets)}: {self.files[-1]}"


@dataclass(kw_only=True, eq=False)
class SegmentRun:
    """Run of a pipeline over its items.

    The run prints nothing; the results and the log say what happens.

    Args:
        plans: What to segment, and what cannot be segmented.
        preprocessing: Loads the image of an item, given under ``image``, into the data.
        inferer: Computes probabilities from images and the network.
        network: The network.
        postprocessing: Writes files from probabilities.
        outputs: Plans the files of each result, as ``postprocessing`` writes them.
        table: Available modalities.
        targets: Names of the chosen targets; None means the ready targets of each item's
            modality.
        part: Share of the input that the run takes, such as ``3/8``; None means all of it.
    """

    plans: Plans
    preprocessing: Callable[[dict[str, Any]], dict[str, Any]]
    inferer: Callable[..., Any]
    network: Any
    postprocessing: Callable[[dict[str, Any]], dict[str, Any]]
    outputs: ResultPlanner
    table: ModalityTable
    targets: Sequence[str] | None = None
    part: str | None = None
    journal: Journal | None = field(default=None, init=False)
    retries: int | None = field(default=None, init=False)
    _given_up: set[str] = field(default_factory=set, init=False)

    def __len__(self) -> int:
        """Return the expected number of results; a full disk yields fewer.

        For a large input, only the parts planned so far count.
        """
        return len(self.plans)

    @property
    def left_alone(self) -> LeftAlone:
        """Other contents of the input, as far as it is planned."""
        return self.plans.left_alone

    @property
    def is_whole(self) -> bool:
        """Whether all of the input is planned."""
        return self.plans.is_whole

    def tell_slices(self, on_slices: Callable[[int, int], None]) -> None:
        """Report the slices done to a function while an item is segmented.

        A custom inferer that does not count slices reports nothing.

        Args:
            on_slices: Called with the number of slices done and the total number.
        """
        if hasattr(self.inferer, "on_slices"):
            self.inferer.on_slices = on_slices

    def results(
        self,
        workers: Pool | None = None,
        journal: Callable[[], Journal | None] | None = None,
        retries: int | None = None,
    ) -> Iterator[ItemResult]:
        """Yield one result per item as it finishes; a full disk ends the run.

        Args:
            workers: Workers that segment the items; None segments them in this process.
            journal: Opens the journal of the run; None keeps none.
            retries: How often a failed item is tried again when all others are done. Items that
                the journal says have failed more often are not tried. None tries each item once,
                whatever happened in earlier runs.

        Raises:
            LockedError: If another run is writing to the output folder.
            OutputError: If the journal cannot be opened.
            EspMedSamError: If no worker can work.
        """
        early: list[ItemResult] | None = None if journal is None else []

        def opened() -> AbstractContextManager[Any]:
            nonlocal early
            self.journal = None if journal is None else journal()
            if self.journal is not None:
                for result in early or ():
                    self.journal.end(result)
            early = None
            return self.journal or nullcontext()

        def noted(result: ItemResult) -> None:
            if self.journal is not None and result.path not in self._given_up:
                self.journal.end(result)

        def is_final(failed: ItemResult) -> bool:
            return failed.path in self._given_up

        self.retries = retries
        each: Each = each_alone if workers is None else workers.each
        for result in results_of(
            self.plans.steps,
            self.segment if workers is None else self._begun,
            label_of=lambda item: item.label,
            output=self.outputs.output_dir,
            folder_of=self.folder_of,
            share=None if self.part is None else RunShare.of(self.part),
            each=Retries(each, retries, is_final, noted) if retries else each,
            beside=opened,
        ):
            if early is not None:
                early.append(result)
            else:
                noted(result)
            yield result

    def folder_of(self, item: Item) -> Path:
        """Return the folder of an item's results."""
        return self.outputs.output_dir / item.relative_dir

    def clean(self, item: Item) -> None:
        """Remove what a process that was ended left of an item's result, if it is not done."""
        root = self.outputs.output_dir
        clear_temporaries(self.folder_of(item), root)
        plan = self._plan(item)
        if not plan.record.exists():
            for path in plan.paths:
                if is_ours(path):
                    remove_file(path, root)

    def segment(self, item: Item) -> ItemResult:
        """Segment one item and write its files.

        Raises:
            EspMedSamError: If the item cannot be read, segmented or written; MONAI may wrap it.
        """
        start = time.perf_counter()
        if (kept := self._begun(item)) is not None:
            return kept
        plan = self._plan(item)
        data = self.preprocessing({"image": item})
        check_can_hold(plan.recipe.formats, image_of(data["image"].meta))
        data["pred"] = self.inferer(data["image"][None], self.network)[0]
        data = self.postprocessing(data)
        image = image_of(data["image"].meta)
        segmentation = segmentation_of(data["pred"].meta)
        return ItemResult(
            path=item.label,
            status="done",
            record=str(plan.record),
            confidence=dict(zip(segmentation.targets, segmentation.confidence, strict=True)),
            voxels=dict(zip(segmentation.targets, segmentation.voxels, strict=True)),
            ml={
                target: image.grid.ml_of(voxels)
                for target, voxels in zip(segmentation.targets, segmentation.voxels, strict=True)
            },
            slice_jump={
                target: None if jump is None else round(jump.share, 3)
                for target, jump in zip(segmentation.targets, segmentation.jumps, strict=False)
            },
            empty=not any(segmentation.voxels),
            warnings=(*image.warnings, *segmentation.warnings),
            seconds=time.perf_counter() - start,
        )

    def planned(self) -> Iterator[Planned]:
        """Yield what would be done with each item; nothing is read or written but headers."""
        for step in self.plans.steps:
            if isinstance(step, Refusal):
                yield failure(step.label, step.error, kind=Planned)
                continue
            try:
                plan = self._plan(step)
                kept = self._kept(step, plan)
            except Exception as error:  # as in a run, the others are planned all the same
                yield failure(step.label, error, kind=Planned)
                continue
            yield Planned(
                path=step.label,
                status="to do" if kept is None else "kept",
                modality=plan.recipe.modality,
                targets=plan.recipe.targets,
                files=tuple(str(path) for path in (kept or plan).paths),
            )

    def run(self) -> None:
        """Segment every item, log the outcome, and exit with status 1 on a failure.

        Raises:
            SystemExit: If an item failed, with a one-line message.
        """
        reuse_memory()
        if told := self.left_alone.text:
            logger.info("Left alone: %s.", told)
        results = Tally(logged(self.results(), lambda: len(self)))
        if self.left_alone.text != told:  # a large input is planned part by part
            logger.info("Left alone: %s.", self.left_alone.text)
        log_end(
            results,
            len(self),
            not_tried=not_tried_text(len(self) - len(results), is_whole=self.is_whole),
            left_alone=self.left_alone.volumes,
        )

    def _plan(self, item: Item, name: str | None = None) -> ResultPlan:
        """Return the plan of an item's result, under another name if one is given."""
        assert item.modality is not None, "planning settled it"
        targets = self.table.select(item.modality, self.targets)
        names = [target.name for target in targets]
        return self.outputs.plan(item, names, name=name, or_more=self.targets is None)

    def _begun(self, item: Item) -> ItemResult | None:
        """Return the result of an item that is not tried now, or note that it begins."""
        plan = self._plan(item)
        kept = self._kept(item, plan)
        if kept is not None:
            return ItemResult(path=item.label, status="kept", record=str(kept.record))
        if self.journal is None:
            return None
        now = plan.attempt(item.files)
        tried = now.fingerprint
        before = None if self.retries is None else self.journal.failure_of(item.label, tried)
        allowed = 0 if self.retries is None else self.retries
        # That a disk was full says nothing of the item.
        if before is None or before.failures <= allowed or before.code == DiskFullError.code:
            self.journal.begin(item.label, tried, now.known)
            return None
        self._given_up.add(item.label)
        told = f"{before.message} Failed in {before.failures} attempts, so it was not tried again; "
        told += "allow more with `retry`."
        return ItemResult(path=item.label, status="failed", code=before.code, message=told)

    def _kept(self, item: Item, plan: ResultPlan) -> ResultPlan | None:
        """Return the plan of an earlier result that this run would reproduce, if there is one."""
        if plan.is_done(item.files):
            return plan
        for name in item.other_names:
            with suppress(EspMedSamError):  # other files there do not matter
                other = self._plan(item, name)
                if other.is_done(item.files):
                    return other
        return None
