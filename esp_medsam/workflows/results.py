"""Results of a run's items, and how they are reported."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from esp_medsam.errors import chain_of, explain, one_line
from esp_medsam.image import size_text


logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of one input of a run, in the same terms for every kind of run.

    Attributes:
        statuses: Possible statuses of this kind of outcome, the failure last.
        path: Name used in messages: the input, or the series of a PACS.
        status: One of ``statuses``.
        code: Stable code of the failure; None without one.
        message: What is wrong and what to do, in one line; empty without a failure.
        warnings: Warnings about the input, one sentence each.
        seconds: Time taken.
    """

    statuses: ClassVar[tuple[str, ...]] = ("done", "failed")

    path: str
    status: str
    code: str | None = None
    message: str = ""
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def has_failed(self) -> bool:
        """Whether the input failed."""
        return self.status == self.statuses[-1]

    @property
    def line(self) -> str:
        """The outcome as one line of text."""
        told = f": {self.code}: {self.message}" if self.has_failed else self.details
        return f"{self.status} {one_line(self.path)}{told}"

    @property
    def details(self) -> str:
        """Text that ends the line of a successful outcome."""
        return ""

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain data, for ``json.dumps``."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, kw_only=True)
class ItemResult(Outcome):
    """Outcome of one item: ``done``, ``kept`` (an earlier result agrees) or ``failed``.

    Attributes:
        record: Path of the JSON that says how the result was made; None if the item failed.
        confidence: Mean probability inside each target's mask, None if the mask is empty; None
            as a whole if the item was not segmented in this run.
        voxels: Voxels, or pixels, of each target in the labelmap; None likewise.
        ml: Volume of each target in milliliters, None if unknown; None likewise.
        slice_jump: Largest jump of each target's mask from slice to slice, 0 to 1, None for a mask
            in fewer than three slices; empty for pictures; None likewise.
        empty: Whether nothing was found; None if the item was not segmented in this run.
        worker: Host and process of the worker that ended it, such as ``node1:4711``; None if it
            was the run's own process.
        attempts: How often workers had it, because one died or it did not fit beside others; with
            retries, in the last of them.
    """

    statuses = ("done", "kept", "failed")

    record: str | None = None
    confidence: Mapping[str, float | None] | None = None
    voxels: Mapping[str, int] | None = None
    ml: Mapping[str, float | None] | None = None
    slice_jump: Mapping[str, float | None] | None = None
    empty: bool | None = None
    worker: str | None = None
    attempts: int = 1

    @property
    def details(self) -> str:
        """How much of each target was found, and how confident the network is."""
        if self.status == "kept":
            return ": done before"
        if self.confidence is None:
            return ""
        told = ", ".join(f"{name} {_size(self, name)}" for name in self.confidence)
        return f" in {self.seconds:.1f} s: {told}"


R = TypeVar("R", bound=Outcome)


def failure(
    path: str,
    error: BaseException,
    seconds: float = 0.0,
    kind: type[R] = ItemResult,  # type: ignore[assignment]  # a default for a bound type
) -> R:
    """Turn an error into the outcome of the input that messages call ``path``.

    For errors from outside this package, only type and place are reported: their text may quote a
    header, and headers can name patients.
    """
    line = explain(error)
    if line is None:
        place = traceback.extract_tb(error.__traceback__)[-1:]
        where = "".join(f" at {Path(frame.filename).name}:{frame.lineno}" for frame in place)
        line = f"E_INTERNAL: unexpected {type(error).__name__}{where}; please report it."
    logger.debug("%s: %s", one_line(path), _places(error))
    code, _, message = line.partition(": ")
    return kind(path=path, status=kind.statuses[-1], code=code, message=message, seconds=seconds)


def _places(error: BaseException) -> str:
    """Return the type and place of an error and of its causes, innermost frame first.

    Their texts are left out because errors of readers and decoders quote header values.
    """
    told = []
    for each in chain_of(error):
        frames = traceback.walk_tb(each.__traceback__)
        places = [f"{frame.f_code.co_filename}:{line}" for frame, line in frames]
        told.append(" < ".join([type(each).__qualname__, *reversed(places)]))
    return "; behind it ".join(told)


def _size(result: ItemResult, target: str) -> str:
    """Return how much of a target was found, and how confident the network is."""
    confidence = (result.confidence or {}).get(target)
    voxels, ml = (result.voxels or {}).get(target, 0), (result.ml or {}).get(target)
    size = size_text(voxels, ml)
    return size if confidence is None else f"{size} ({confidence:.2f})"


class Tally(Generic[R]):
    """Outcomes of a run, counted as they arrive; only the failures are held.

    Args:
        outcomes: The first ones.

    Attributes:
        counts: Number of outcomes by status.
        empty: Number of items that were segmented, and in which nothing was found.
        failed: The outcomes that failed.
    """

    def __init__(self, outcomes: Iterable[R] = ()) -> None:
        self.counts = Counter[str]()
        self.empty = 0
        self.failed: list[R] = []
        for outcome in outcomes:
            self.add(outcome)

    def __len__(self) -> int:
        """Return the number of outcomes."""
        return self.counts.total()

    def add(self, outcome: R) -> None:
        """Count one more."""
        self.counts[outcome.status] += 1
        self.empty += isinstance(outcome, ItemResult) and bool(outcome.empty)
        if outcome.has_failed:
            self.failed.append(outcome)


def table_of(failed: Sequence[Outcome]) -> list[str]:
    """Return the failures as lines of a table: code, path and message."""
    rows = [(result.code or "", one_line(result.path), result.message) for result in failed]
    codes, paths = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    return [f"  {code:<{codes}}  {path:<{paths}}  {message}" for code, path, message in rows]


def summary(
    results: Tally[Any],
    kind: type[Outcome] = ItemResult,
    *,
    not_tried: str = "",
    left_alone: str = "",
) -> str:
    """Return a summary: how many inputs have each status, and how many have nothing found.

    Args:
        results: Outcomes of all inputs that were tried.
        kind: Class that defines their statuses.
        not_tried: What was not tried, as :func:`not_tried_text` words it.
        left_alone: What the run did not process at all.
    """
    told = counts_text(results.counts, kind, empty=results.empty)
    return f"{told}{not_tried}" + (f"; left alone: {left_alone}" if left_alone else "")


def counts_text(counts: Mapping[str, int], kind: type[Outcome], *, empty: int = 0) -> str:
    """Return how many inputs have each status of a kind of outcome.

    Args:
        counts: Number of inputs by status; 0 for those that are missing.
        kind: Class that defines the statuses.
        empty: Number of inputs of the first status in which nothing was found.
    """
    first, *others = [f"{counts.get(status, 0)} {status}" for status in kind.statuses]
    return ", ".join([first + (f" ({empty} with nothing found)" if empty else ""), *others])


def not_tried_text(not_tried: Mapping[str, int] | int, *, is_whole: bool = True) -> str:
    """Return the summary's text about what was not tried; empty if everything was.

    Args:
        not_tried: Number of items, or numbers by kind.
        is_whole: Whether this covers the whole input; a large input is planned in parts.
    """
    counts = {"": not_tried} if isinstance(not_tried, int) else dict(not_tried)
    if is_whole and not any(counts.values()):
        return ""
    more = "" if is_whole else ", nor any in further folders,"
    told = ", ".join(f"{count} {what}".strip() for what, count in counts.items())
    return f", {told} not tried{more} because the disk is full"


def logged(results: Iterable[R], total: Callable[[], int]) -> Iterator[R]:
    """Yield all results, and log each one with its warnings as it arrives.

    Args:
        results: Results, as they arrive.
        total: Returns how many there will be, as far as known so far.
    """
    for number, result in enumerate(results, start=1):
        logger.info("%d of %d: %s", number, total(), result.line)
        for warning in result.warnings:
            logger.warning("%s: %s", one_line(result.path), warning)
        yield result


def log_end(results: Tally[Any], total: int, *, not_tried: str = "", left_alone: str = "") -> None:
    """Log how a run ended, and exit with status 1 on a failure; see :func:`summary`.

    Raises:
        SystemExit: If an item failed, with a one-line message.
    """
    logger.info("%s.", summary(results, not_tried=not_tried, left_alone=left_alone))
    if results.failed:
        logger.error("Failed:\n%s", "\n".join(table_of(results.failed)))
        msg = f"{len(results.failed)} of {total} items failed{not_tried}; see the table above."
        raise SystemExit(msg)
