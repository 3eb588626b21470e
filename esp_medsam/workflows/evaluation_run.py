"""Run an evaluation: score, summarize, compare, write."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Any

from monai.inferers import Inferer

from esp_medsam.io.atomic import atomic_file
from esp_medsam.io.record import STAMP
from esp_medsam.io.result_plan import ResultPlanner
from esp_medsam.modality import THRESHOLD, CleanUp, ModalityTable
from esp_medsam.transforms import ModalityTransforms
from esp_medsam.workflows.case_score import TargetScore, write_cases
from esp_medsam.workflows.datalist import Item, Tracked
from esp_medsam.workflows.evaluate import CaseScorer
from esp_medsam.workflows.evaluation import EvaluationPlan
from esp_medsam.workflows.evaluation_comparison import Comparison, compare
from esp_medsam.workflows.evaluation_plots import write_plots
from esp_medsam.workflows.evaluation_summary import Score, summarize
from esp_medsam.workflows.evaluation_table import lines_of
from esp_medsam.workflows.item_loop import each_alone
from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.request import Request
from esp_medsam.workflows.results import ItemResult, Tally, failure, log_end, logged


logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CaseResult(ItemResult):
    """Outcome of one case: ``done`` or ``failed``.

    Attributes:
        scores: Scores of its targets, with image paths relative to the datalist's folder.
    """

    scores: tuple[TargetScore, ...] = ()

    @property
    def details(self) -> str:
        """Dice of each target of the case."""
        told = ", ".join(f"{score.target} {score.dice:.3f}" for score in self.scores)
        return f" in {self.seconds:.1f} s: {told}"


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Outcome of an evaluation.

    Attributes:
        results: Results of all cases, including the failed ones, which no other field counts.
        scores: Score of each target of each set.
        comparison: Comparison with another model, if one was requested.
        content: Everything except the cases, as it is written to JSON.
        written: Files that were written.
    """

    results: tuple[CaseResult, ...]
    scores: tuple[Score, ...]
    comparison: Comparison | None
    content: Mapping[str, Any]
    written: tuple[Path, ...]

    @property
    def tally(self) -> Tally[CaseResult]:
        """The results, counted, and those of the cases that could not be scored."""
        return Tally(self.results)

    @property
    def cases(self) -> tuple[TargetScore, ...]:
        """Scores of all cases."""
        return tuple(score for result in self.results for score in result.scores)

    @property
    def lines(self) -> list[str]:
        """Everything except the cases, as text."""
        counts = {"failed": len(self.tally.failed), "images": len(self.results)}
        return lines_of(self.scores, self.comparison, **counts)


@dataclass(eq=False)
class Evaluation:
    """Evaluation of a plan with the parts of a pipeline.

    Args:
        plan: Items to score, and how.
        table: Modalities and targets of the network.
        inferer: Turns an image and the network into uint8 probabilities.
        network: Any network that the inferer accepts.
        outputs: Planner of the same pipeline's results, which also states what they are made with.
        transforms: Transforms by modality, the same as the inferer's.
        ct_input: Meaning of CT values for items that do not specify it.
        frame: Index of the volume in a 4-D file, from 0.
    """

    plan: EvaluationPlan
    _: KW_ONLY
    table: ModalityTable
    inferer: Inferer
    network: Any
    outputs: ResultPlanner
    transforms: Mapping[str, ModalityTransforms] | None = None
    ct_input: str | None = None
    frame: int | None = None

    def results(self, tracked: Tracked = iter) -> Iterator[CaseResult]:
        """Yield one result per case as it completes; a failed case does not stop the others.

        Args:
            tracked: Passes the items through one by one and shows the progress.
        """
        settings = self.plan.settings
        folder = Path(settings.datalist).parent
        scorer = CaseScorer(
            table=self.table,
            inferer=self.inferer,
            network=self.network,
            transforms=self.transforms,
            ct_input=self.ct_input,
            frame=self.frame,
            tolerance=settings.tolerance,
            protocol=settings.protocol,
        )

        def scored(item: Item) -> CaseResult:
            start = time.perf_counter()
            path = _below(item.image, folder)
            scores = tuple(score._replace(image=path) for score in scorer.score(item))
            seconds = time.perf_counter() - start
            return CaseResult(path=path, status="done", scores=scores, seconds=seconds)

        def failed(item: Item, error: Exception) -> CaseResult:
            return failure(_below(item.image, folder), error, kind=CaseResult)

        return each_alone(tracked(self.plan.items), scored, failed)

    def evaluate(self, results: Iterable[CaseResult]) -> Evaluated:
        """Summarize all cases and, if any case was scored, write the requested files.

        Args:
            results: Results of all cases, see :meth:`results`.

        Raises:
            EspMedSamError: If the other model's cases are of other images, or a file cannot be
                written.
        """
        settings, results, written = self.plan.settings, tuple(results), []
        cases = tuple(score for result in results for score in result.scores)
        if cases and settings.cases is not None:  # first: cases take long, the rest needs them
            write_cases(Path(settings.cases), cases)
            written.append(Path(settings.cases))
        draws = {"resamples": settings.resamples, "seed": settings.seed}
        scores = tuple(summarize(cases, **draws))
        others = self.plan.others if cases else None
        comparison = None if others is None else compare(cases, others, **draws)
        content = {
            **STAMP,
            **self.outputs.made_with,
            "mask_rules": _mask_rules(self.table, scores),
            **_content(self.plan, scores, comparison, Tally(results).failed),
        }
        if cases and settings.summary is not None:
            with atomic_file(Path(settings.summary)) as file:
                file.write(f"{json.dumps(content, indent=1)}\n".encode())
            written.append(Path(settings.summary))
        if cases and settings.plots is not None:
            written += write_plots(Path(settings.plots), settings.plot_format, cases, scores)
        return Evaluated(
            results=results,
            scores=scores,
            comparison=comparison,
            content=content,
            written=tuple(written),
        )

    def run(self) -> None:
        """Evaluate, and log cases, table and files, for ``python -m monai.bundle run``.

        Raises:
            SystemExit: If a case failed, with one line.
        """
        results = list(logged(self.results(), lambda: len(self.plan.items)))
        evaluated = self.evaluate(results)
        for line in evaluated.lines:
            logger.info("%s", line)
        for path in evaluated.written:
            logger.info("Written: %s", path)
        log_end(Tally(results), len(results))


def evaluate_request(
    request: Request,
    plan: EvaluationPlan,
    tracked: Tracked = iter,
) -> Evaluated:
    """Build the pipeline of a request and score what is planned with it.

    Args:
        request: Network and pipeline to use.
        plan: Items to score, and how.
        tracked: Passes the items through one by one and shows the progress.

    Raises:
        EspMedSamError: As :meth:`Evaluation.evaluate`, and if the weights are not usable.
    """
    parsed = read_config(request)
    settings, table, inferer, network, outputs = (
        parsed.get_parsed_content(key)
        for key in ("settings", "result_table", "inferer", "network", "outputs")
    )
    evaluation = Evaluation(
        plan,
        table=table,
        inferer=inferer,
        network=network,
        outputs=outputs,
        transforms=settings.transforms,
        ct_input=settings.ct_input,
        frame=settings.frame,
    )
    return evaluation.evaluate(evaluation.results(tracked))


def _below(image: str, folder: Path) -> str:
    """Return an image's path relative to a folder, if the image lies in it."""
    path = Path(image)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else image


def _content(
    plan: EvaluationPlan,
    scores: Sequence[Score],
    comparison: Comparison | None,
    failed: Sequence[CaseResult],
) -> dict[str, Any]:
    """Return the JSON content: how scores were measured, scores, comparison, failed cases."""
    settings = plan.settings
    return {
        "protocol": settings.protocol,
        "section": settings.section,
        "tolerance": settings.tolerance if settings.protocol == "native" else None,
        "resamples": settings.resamples,
        "seed": settings.seed,
        "scores": [_plain(score) for score in scores],
        "comparison": None if comparison is None else asdict(comparison),
        "failed": [{"image": one.path, "code": one.code, "message": one.message} for one in failed],
    }


def _mask_rules(table: ModalityTable, scores: Iterable[Score]) -> dict[str, Any]:
    """Return how masks were made of probabilities, by target, where it is not the usual way."""
    rules: dict[str, Any] = {}
    for score in scores:
        (target,) = table.select(score.modality, [score.target])
        if (target.threshold, target.clean_up) != (THRESHOLD, CleanUp()):
            own = {"threshold": target.threshold, **asdict(target.clean_up)}
            rules[f"{score.modality}.{score.target}"] = own
    return rules


def _plain(score: Score) -> dict[str, Any]:
    """Return a score as plain data, with tuples keyed by the names of their fields."""
    curve = score.risk_coverage
    return {
        **asdict(score),
        "risk_coverage": None if curve is None else curve._asdict(),
        "reliability": [one._asdict() for one in score.reliability],
    }
