"""Measure the benefit of distillation: a student with it against one without, in equal time."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import NamedTuple

import torch.distributed as dist

from esp_medsam.errors import OptionError, one_line
from esp_medsam.identity import sha256_of
from esp_medsam.io.atomic import atomic_file
from esp_medsam.plain_data import read_own_json
from esp_medsam.training_settings import ComparisonSettings, TrainSettings
from esp_medsam.workflows.datalist import read_datalist
from esp_medsam.workflows.embeddings import EmbeddingStore
from esp_medsam.workflows.evaluation import plan_request
from esp_medsam.workflows.evaluation_run import Evaluated, evaluate_request
from esp_medsam.workflows.evaluation_table import compared_lines
from esp_medsam.workflows.history import History
from esp_medsam.workflows.request import read_request
from esp_medsam.workflows.train_request import read_training
from esp_medsam.workflows.training_run import run_training


logger = logging.getLogger(__name__)

DISTILLED, MASKS_ALONE = "distilled", "masks_alone"
"""Folders of the two students."""

ALIKE = (
    *("absent_masks", "accumulate", "amp", "batch_size", "cache_dir", "device", "empty_slices"),
    *("input_size", "mask_loss", "num_workers", "patch_weight", "pixel_mean", "pixel_std"),
    *("presence_weight", "seed", "simulated_clicks", "transforms", "turns"),
)
"""Settings that both students take from the distillation; others come from ``train.yaml``."""


class Plan(NamedTuple):
    """Inputs of the comparison; a different plan starts over.

    Attributes:
        weights: SHA-256 of the weights that the distillation produced.
        datalist: SHA-256 of the datalist that the students learn masks from.
        steps: Training steps of the distilled student on masks.
        seconds: Duration of the distillation, including embeddings if computed during it.
    """

    weights: str
    datalist: str
    steps: int
    seconds: float

    @property
    def fixed(self) -> tuple[str, str, int]:
        """All fields except the seconds, which a resumed run no longer knows."""
        return self.weights, self.datalist, self.steps


class Trained(NamedTuple):
    """Outcome of a student's training.

    Attributes:
        steps: Steps done.
        seconds: Time taken.
    """

    steps: int
    seconds: float


@dataclass(eq=False)
class StudentComparison:
    """Training of both students, and one table that compares them.

    The distilled student learns masks from the distillation's weights. The other starts where the
    distillation did, and learns only masks for as long as distillation and masks took together.
    Both are scored with the weights that validated best. Finished parts are kept, so the same
    command resumes.

    Args:
        settings: Number of steps, and the data to compare on.
        training: Settings of the distillation.
        datalist: Datalist that the students learn masks from; None if there is none.
        bundle_root: The bundle of the distillation.
    """

    settings: ComparisonSettings
    _: KW_ONLY
    training: TrainSettings
    datalist: str | None
    bundle_root: str

    @property
    def folder(self) -> Path:
        """Folder of all outputs of the comparison."""
        return Path(self.training.output_dir, "comparison")

    def check(self) -> None:
        """Refuse, before any training, settings that cannot be compared.

        Raises:
            OptionError: If steps are requested but there are no masks to learn from, or if a
                datalist is invalid.
            InputNotFoundError: If a datalist does not exist.
        """
        if self.settings.unseen is not None:
            read_datalist(self.settings.unseen, "test")
        if self.settings.compare_steps == 0 or dist.is_initialized():
            return  # after several processes, the same command in one process compares
        if hindrance := self._hindrance():
            msg = f"compare_steps must be 0 where {hindrance}; got {self.settings.compare_steps}."
            raise OptionError(msg)
        if self.settings.unseen is None:
            logger.warning("The comparison has no images of other sources: unseen is empty.")

    def run(self, history: History, stored: EmbeddingStore) -> None:
        """Train and score both students, and report the result.

        Args:
            history: History of the finished distillation.
            stored: Embeddings of the distillation.

        Raises:
            EspMedSamError: If a training or an evaluation fails.
        """
        if self.settings.compare_steps == 0:
            return
        if dist.is_initialized():
            logger.warning(
                "What distillation added is not measured yet, because several processes trained; "
                "the same command in one process measures it."
            )
            return
        plan = self.plan(history.epochs[-1]["steps"], history.seconds + stored.seconds)
        logger.info("Two students train on masks, to be compared: %s", one_line(str(self.folder)))
        start = str(Path(self.training.output_dir, "model.pt"))
        own = self._train(DISTILLED, start, plan.steps)
        longer = round(own.steps * (plan.seconds + own.seconds) / own.seconds)
        alone = self._train(MASKS_ALONE, self.training.pretrained, longer)
        distilled = plan.seconds + own.seconds
        lines = [
            f"{MASKS_ALONE}: {alone.steps} steps on masks, {_minutes(alone.seconds)}.",
            f"{DISTILLED}: {own.steps} steps on masks after it, {_minutes(distilled)} in all.",
            *self._scored(),
        ]
        with atomic_file(self.folder / "table.txt") as file:
            file.write("".join(f"{line}\n" for line in lines).encode())
        for line in lines:
            logger.info("%s", line)

    def plan(self, steps: int, seconds: float) -> Plan:
        """Return the plan in progress, or a new one in an empty folder.

        Args:
            steps: Number of steps of the distillation.
            seconds: Duration of the distillation.
        """
        assert self.datalist is not None
        asked = self.settings.compare_steps
        weights = Path(self.training.output_dir, "model.pt")
        plan = Plan(
            sha256_of(weights),
            sha256_of(Path(self.datalist)),
            steps if asked == "auto" else int(asked),
            seconds,
        )
        path = self.folder / "plan.json"
        with suppress(OSError, TypeError, ValueError):  # missing or damaged: students start over
            kept = Plan(**read_own_json(path))
            if kept.fixed == plan.fixed:
                return kept
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(json.dumps(plan._asdict(), indent=1).encode())
        return plan

    def _hindrance(self) -> str | None:
        """Return why nothing can be compared, or None."""
        if not self.datalist:
            return "pictures have no masks, and compare_datalist is not set"
        for section in ("training", "validation"):
            if not any(item.labels for item in read_datalist(self.datalist, section)):
                return f"no item of {section} has a mask"
        return None

    def _train(self, name: str, pretrained: str | None, steps: int) -> Trained:
        """Train a student on masks, or resume its training; return the outcome."""
        batches = max(1, round(steps / self.training.epochs))
        epochs = max(1, round(steps / batches))  # of whole batches, as close as possible
        request = read_training(
            self.bundle_root,
            trust_config=True,  # its configs are already running
            datalist=self.datalist,
            output_dir=str(self.folder / name),
            pretrained=pretrained,
            epochs=epochs,
            samples_per_epoch=batches * self.training.batch_size,
            **{setting: getattr(self.training, setting) for setting in ALIKE},
        )
        run_training(request)
        history = json.loads((self.folder / name / "history.json").read_text(encoding="utf-8"))
        seconds = float(sum(epoch["seconds"] for epoch in history))
        return Trained(history[-1]["steps"], max(seconds, 1e-3))

    def _scored(self) -> Iterator[str]:
        """Score both on the validation images and on unseen images; yield lines of the table."""
        assert self.datalist is not None
        for name, told, datalist, section in (
            ("validation", "Validation images", self.datalist, "validation"),
            ("unseen", "Sets never seen", self.settings.unseen, "test"),
        ):
            if datalist is None:
                continue
            yield f"{told} ({section} of {one_line(datalist)})"
            alone = self._evaluate(name, MASKS_ALONE, datalist, section)
            others = str(self._cases(name, MASKS_ALONE)) if alone.cases else None
            distilled = self._evaluate(name, DISTILLED, datalist, section, compare=others)
            if distilled.comparison is not None:
                yield from compared_lines(
                    (MASKS_ALONE, alone.scores), (DISTILLED, distilled.scores), distilled.comparison
                )
            for student, evaluated in ((MASKS_ALONE, alone), (DISTILLED, distilled)):
                yield from (f"{student}: {result.line}" for result in evaluated.tally.failed)

    def _cases(self, name: str, student: str) -> Path:
        return self.folder / f"{name}_{student}.csv"

    def _evaluate(
        self, name: str, student: str, datalist: str, section: str, compare: str | None = None
    ) -> Evaluated:
        shown = ("device", "input_size", "pixel_mean", "pixel_std", "transforms")
        request = read_request(
            self.bundle_root,
            trust_config=True,
            ckpt_path=str(self.folder / student / "model.pt"),
            **{setting: getattr(self.training, setting) for setting in shown},
        )
        cases = self._cases(name, student)
        request, plan = plan_request(
            request,
            datalist=datalist,
            section=section,
            cases=str(cases),
            summary=str(cases.with_suffix(".json")),
            compare=compare,
            overwrite=True,
        )
        return evaluate_request(request, plan)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"
