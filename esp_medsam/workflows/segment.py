"""Segment many items with one pipeline: one result for each, and no bad item ends the run."""

from __future__ import annotations

import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from esp_medsam import io
from esp_medsam.errors import (
    DiskFullError,
    EspMedSamError,
    explain,
    one_line,
)
from esp_medsam.image import image_of, said_size, segmentation_of
from esp_medsam.io.atomic import alone_in
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.items import Item, label_of


logger = logging.getLogger(__name__)

Status = Literal["done", "kept", "failed"]


@dataclass(frozen=True, kw_only=True)
class SegmentResult:
    """What became of one item.

    Attributes:
        path: The input.
        status: ``done``; ``kept``, an earlier result that agrees; ``failed``.
        code: Stable code of the failure; None without one.
        message: What is wrong and what to do, one line; empty without a failure.
        record: The JSON that says how the result was made; None where it failed.
        confidence: Mean probability inside each target's mask, None where it is empty; nothing
            where the item was not segmented now.
        voxels: Voxels, or pixels, of each target in the labelmap; None likewise.
        ml: Volume of each target in milliliters, None where it is not known; None likewise.
        empty: Whether nothing was found; None where the item was not segmented now.
        warnings: What is to be known of the image and of its result, a sentence each.
        seconds: Time taken.
    """

    path: str
    status: Status
    code: str | None = None
    message: str = ""
    record: str | None = None
    confidence: Mapping[str, float | None] | None = None
    voxels: Mapping[str, int] | None = None
    ml: Mapping[str, float | None] | None = None
    empty: bool | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0


class Segmentation:
    """Drive the parts of a pipeline over its items.

    It prints nothing; what happens is in the results, and in the log.

    Args:
        items: What to segment: ``image``, ``name`` and ``relative_dir`` of each.
        preprocessing: From an item to the data with its image loaded.
        inferer: From images and the network to probabilities.
        network: The network.
        postprocessing: From probabilities to files.
        saver: The saver within ``postprocessing``; says what is done already.
        table: Modalities at hand.
        targets: Names of the chosen targets; None means those of each item's modality that are
            ready.
        refused: Items that cannot be taken, each with its reason.
        left_alone: What else lies in the input, in one line, told once; empty for nothing.

    Attributes:
        not_tried: Items without a result because the disk was full, which ends a run.
    """

    def __init__(
        self,
        *,
        items: Sequence[Item],
        preprocessing: Callable[[Item], dict[str, Any]],
        inferer: Callable[..., Any],
        network: Any,
        postprocessing: Callable[[dict[str, Any]], dict[str, Any]],
        saver: io.SaveSegmentationd,
        table: ModalityTable,
        targets: Sequence[str] | None = None,
        refused: Sequence[tuple[Item, EspMedSamError]] = (),
        left_alone: str = "",
    ) -> None:
        self.items = items
        self.preprocessing = preprocessing
        self.inferer = inferer
        self.network = network
        self.postprocessing = postprocessing
        self.saver = saver
        self.table = table
        self.targets = targets
        self.refused = refused
        self.left_alone = left_alone
        self.not_tried = 0

    def __len__(self) -> int:
        """Return the number of results there will be, unless the disk is full."""
        return len(self.refused) + len(self.items)

    def results(self) -> Iterator[SegmentResult]:
        """Yield one result per item, as it comes; none after one that met a full disk.

        Raises:
            OutputError: If another run is writing to the output folder.
        """
        self.not_tried = 0
        for item, error in self.refused:
            yield failure(item, error)
        if not self.items:
            return
        with alone_in(self.saver.output_dir) as folder:
            for number, item in enumerate(self.items, start=1):
                folder.clear(self.saver.output_dir / item["relative_dir"])
                result = self.segment(item)
                if result.code == DiskFullError.code:
                    self.not_tried = len(self.items) - number
                yield result
                if self.not_tried:
                    return

    def segment(self, item: Item) -> SegmentResult:
        """Segment one item and write its files; a failure is a result, not an error."""
        start = time.perf_counter()
        try:
            kept = self._kept_name(item)
            if kept is not None:
                record = self._record(item, kept)
                return SegmentResult(path=label_of(item), status="kept", record=record)
            data = self.preprocessing(dict(item))
            self.saver.check(image_of(data["image"].meta))
            data["pred"] = self.inferer(data["image"][None], self.network)[0]
            data = self.postprocessing(data)
        except Exception as error:  # one bad case never ends a run
            return failure(item, error, time.perf_counter() - start)
        image = image_of(data["image"].meta)
        segmentation = segmentation_of(data["pred"].meta)
        return SegmentResult(
            path=label_of(item),
            status="done",
            record=self._record(item, item["name"]),
            confidence=dict(zip(segmentation.targets, segmentation.confidence, strict=True)),
            voxels=dict(zip(segmentation.targets, segmentation.voxels, strict=True)),
            ml={
                target: image.ml_of(voxels)
                for target, voxels in zip(segmentation.targets, segmentation.voxels, strict=True)
            },
            empty=not any(segmentation.voxels),
            warnings=(*image.warnings, *segmentation.warnings),
            seconds=time.perf_counter() - start,
        )

    def run(self) -> None:
        """Segment every item, log how it went, and end the process with status 1 on a failure.

        Raises:
            SystemExit: If an item failed, with one line.
        """
        results = []
        if self.left_alone:
            logger.info("Left alone: %s.", self.left_alone)
        for number, result in enumerate(self.results(), start=1):
            logger.info("%d of %d: %s", number, len(self), line_of(result))
            for warning in result.warnings:
                logger.warning("%s: %s", one_line(result.path), warning)
            results.append(result)
        failed = [result for result in results if result.status == "failed"]
        logger.info("%s.", summary(results, self.not_tried))
        if failed:
            logger.error("Failed:\n%s", "\n".join(table_of(failed)))
            more = _untold(self.not_tried)
            msg = f"{len(failed)} of {len(self)} items failed{more}; see the table above."
            raise SystemExit(msg)

    def _kept_name(self, item: Item) -> str | None:
        """Return the name under which an earlier run left what this one would write."""
        if self._is_done(item, item["name"]):
            return str(item["name"])
        former = item.get("former_name")
        with suppress(EspMedSamError):  # what else is there does not stand in the way
            if former and self._is_done(item, former):
                return str(former)
        return None

    def _is_done(self, item: Item, name: str) -> bool:
        targets = self.table.select(item["modality"], self.targets)
        return self.saver.is_done(
            item.get("files") or io.files_of(item["image"]),
            name=name,
            relative_dir=item["relative_dir"],
            is_volume=item["is_volume"],
            is_dicom="volume" in item,
            modality=item["modality"],
            targets=[target.name for target in targets],
            or_more=self.targets is None,
        )

    def _record(self, item: Item, name: str) -> str:
        """Return the path of the record that an item has under a name."""
        stem = io.output_stem(self.saver.output_dir, item["relative_dir"], name)
        return str(stem.with_name(f"{stem.name}.json"))


def failure(item: Item, error: BaseException, seconds: float = 0.0) -> SegmentResult:
    """Turn an error into the result of its item.

    Of an error that is none of ours only type and place are told: its text may quote a header,
    and headers name patients.
    """
    line = explain(error)
    if line is None:
        place = traceback.extract_tb(error.__traceback__)[-1:]
        where = "".join(f" at {Path(frame.filename).name}:{frame.lineno}" for frame in place)
        line = f"E_INTERNAL: unexpected {type(error).__name__}{where}; please report it."
    logger.debug("%s: %s", one_line(label_of(item)), _places(error))
    code, _, message = line.partition(": ")
    return SegmentResult(
        path=label_of(item), status="failed", code=code, message=message, seconds=seconds
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, or while."""
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)


def _places(error: BaseException) -> str:
    """Return type and place of an error, and of those behind it, innermost frame first.

    Their texts are left out: those of readers and decoders quote values of headers.
    """
    told = []
    for each in _chain(error):
        frames = traceback.walk_tb(each.__traceback__)
        places = [f"{frame.f_code.co_filename}:{line}" for frame, line in frames]
        told.append(" < ".join([type(each).__qualname__, *reversed(places)]))
    return "; behind it ".join(told)


def line_of(result: SegmentResult) -> str:
    """Return a result in one line."""
    path = one_line(result.path)
    if result.status == "failed":
        return f"failed {path}: {result.code}: {result.message}"
    if result.status == "kept":
        return f"kept {path}: done before"
    told = ", ".join(f"{name} {_size(result, name)}" for name in result.confidence or {})
    return f"done {path} in {result.seconds:.1f} s: {told}"


def _size(result: SegmentResult, target: str) -> str:
    """Return how much of a target was found, and how sure the network is of it."""
    confidence = (result.confidence or {}).get(target)
    voxels, ml = (result.voxels or {}).get(target, 0), (result.ml or {}).get(target)
    size = said_size(voxels, ml)
    return size if confidence is None else f"{size} ({confidence:.2f})"


def table_of(failed: Sequence[SegmentResult]) -> list[str]:
    """Return the failures as the lines of a table: code, path, and what is wrong."""
    rows = [(result.code or "", one_line(result.path), result.message) for result in failed]
    codes, paths = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    return [f"  {code:<{codes}}  {path:<{paths}}  {message}" for code, path, message in rows]


def summary(results: Sequence[SegmentResult], not_tried: int = 0) -> str:
    """Return how many items were done, kept and failed, and in how many nothing was found.

    Args:
        results: Of all items that were tried.
        not_tried: Number of items that were not, because the disk was full.
    """
    counts = Counter(result.status for result in results)
    empty = sum(bool(result.empty) for result in results)
    done = f"{counts['done']} done" + (f" ({empty} with nothing found)" if empty else "")
    return f"{done}, {counts['kept']} kept, {counts['failed']} failed{_untold(not_tried)}"


def _untold(not_tried: int) -> str:
    return f", {not_tried} not tried because the disk is full" if not_tried else ""
