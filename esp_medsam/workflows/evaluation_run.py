"""Run an evaluation: score, summarize, compare, write."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Any

from monai.inferers import Inferer

from esp_medsam.io.atomic import atomic_file
from esp_medsam.io.record import STAMP
from esp_medsam.io.result_plan import ResultPlanner
from esp_medsam.modality import ModalityTable
from esp_medsam.transforms import ModalityTransforms
from esp_medsam.workflows.case_score import TargetScore, write_cases
from esp_medsam.workflows.datalist import Item
from esp_medsam.workflows.evaluate import target_scores
from esp_medsam.workflows.evaluation import EvaluationPlan
from esp_medsam.workflows.evaluation_comparison import Comparison, compare
from esp_medsam.workflows.evaluation_plots import write_plots
from esp_medsam.workflows.evaluation_summary import Score, summarize
from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.request import Request


logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What came out.

    Attributes:
        cases: Scores of the cases, each image named from the datalist's folder on.
        scores: Of each target of each set.
        comparison: With another model, where one was asked for.
        content: All but the cases, as what JSON holds.
        written: Files that were written.
    """

    cases: tuple[TargetScore, ...]
    scores: tuple[Score, ...]
    comparison: Comparison | None
    content: Mapping[str, Any]
    written: tuple[Path, ...]


@dataclass(eq=False)
class Evaluation:
    """Score what a plan holds with the parts of a pipeline.

    Args:
        plan: What is to be scored.
        table: Modalities and targets of the network.
        inferer: From an image and the network to uint8 probabilities.
        network: Anything that the inferer takes.
        outputs: What would plan results of the same pipeline, and states what they are made with.
        transforms: Transforms by modality, as the inferer has them.
        ct_input: What CT values are where an item does not say.
        frame: Which volume of a 4-D file, from 0.
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

    def evaluate(
        self, tracked: Callable[[Sequence[Item]], Iterable[Item]] | None = None
    ) -> Evaluated:
        """Score all cases, and write the files that were asked for.

        Args:
            tracked: Hands the items on one by one, and shows how far they are.

        Raises:
            EspMedSamError: If an image cannot be scored, the other model's cases are of other
                images, or a file cannot be written.
        """
        settings = self.plan.settings
        found = target_scores(
            self.plan.items,
            table=self.table,
            inferer=self.inferer,
            network=self.network,
            transforms=self.transforms,
            ct_input=self.ct_input,
            frame=self.frame,
            tolerance=settings.tolerance,
            protocol=settings.protocol,
            tracked=tracked,
        )
        folder = Path(settings.datalist).parent
        cases = tuple(score._replace(image=_below(score.image, folder)) for score in found)
        written = []
        if settings.cases is not None:  # first: they took long, and all else follows from them
            write_cases(Path(settings.cases), cases)
            written.append(Path(settings.cases))
        draws = {"resamples": settings.resamples, "seed": settings.seed}
        scores = tuple(summarize(cases, **draws))
        others = self.plan.others
        comparison = None if others is None else compare(cases, others, **draws)
        content = {
            "software": STAMP["software"],
            **self.outputs.made_with,
            **_content(self.plan, scores, comparison),
        }
        if settings.summary is not None:
            with atomic_file(Path(settings.summary)) as file:
                file.write(f"{json.dumps(content, indent=1)}\n".encode())
            written.append(Path(settings.summary))
        if settings.plots is not None:
            written += write_plots(Path(settings.plots), settings.plot_format, cases, scores)
        return Evaluated(
            cases=cases,
            scores=scores,
            comparison=comparison,
            content=content,
            written=tuple(written),
        )

    def run(self) -> None:
        """Evaluate, and log the table and the files, as ``python -m monai.bundle run`` does."""
        from esp_medsam.workflows.evaluation_table import lines_of

        evaluated = self.evaluate()
        for line in lines_of(evaluated.scores, evaluated.comparison):
            logger.info("%s", line)
        for path in evaluated.written:
            logger.info("Written: %s", path)


def evaluate_request(
    request: Request,
    plan: EvaluationPlan,
    tracked: Callable[[Sequence[Item]], Iterable[Item]] | None = None,
) -> Evaluated:
    """Build the pipeline of a request and score what is planned with it.

    Args:
        request: What network and pipeline.
        plan: What is to be scored.
        tracked: Hands the items on one by one, and shows how far they are.

    Raises:
        EspMedSamError: As of :meth:`Evaluation.evaluate`, and if the weights are not usable.
    """
    parsed = read_config(request)
    settings, table, inferer, network, outputs = (
        parsed.get_parsed_content(key)
        for key in ("settings", "table", "inferer", "network", "outputs")
    )
    return Evaluation(
        plan,
        table=table,
        inferer=inferer,
        network=network,
        outputs=outputs,
        transforms=settings.transforms,
        ct_input=settings.ct_input,
        frame=settings.frame,
    ).evaluate(tracked)


def _below(image: str, folder: Path) -> str:
    """Return an image's path from a folder on, where it lies in it."""
    path = Path(image)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else image


def _content(
    plan: EvaluationPlan, scores: Sequence[Score], comparison: Comparison | None
) -> dict[str, Any]:
    """Return what JSON holds: how it was measured, the scores, and the comparison."""
    settings = plan.settings
    return {
        "protocol": settings.protocol,
        "section": settings.section,
        "tolerance": settings.tolerance if settings.protocol == "native" else None,
        "resamples": settings.resamples,
        "seed": settings.seed,
        "scores": [_plain(score) for score in scores],
        "comparison": None if comparison is None else asdict(comparison),
    }


def _plain(score: Score) -> dict[str, Any]:
    """Return a score as plain data, tuples by the names of their fields."""
    curve = score.risk_coverage
    return {
        **asdict(score),
        "risk_coverage": None if curve is None else curve._asdict(),
        "reliability": [one._asdict() for one in score.reliability],
    }
