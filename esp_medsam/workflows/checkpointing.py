"""Atomic checkpoints with everything that the next step depends on."""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer

from esp_medsam.errors import OptionError, OutputError, listed, one_line
from esp_medsam.identity import sha256_of
from esp_medsam.io.atomic import atomic_file, clear_temporaries, remove_file
from esp_medsam.workflows.distributed import is_first


logger = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d{8,})-([0-9a-f]{32})\.pt")
"""Name of a checkpoint: the steps done, and the start of the file's SHA-256."""

_FORMAT = 1


class Stateful(Protocol):
    """Object whose state a checkpoint can hold."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain data."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Restore a state."""


class Checkpoints:
    """Handler that writes checkpoints of a trainer, and resumes it from the last intact one.

    A checkpoint is written after each epoch and its validation, and every ``every`` steps. Its file
    name contains a hash of its content: a damaged one is reported and skipped. The previous one is
    kept until the next has been read back. None is written if the last step was skipped, unless the
    run ends there: the weights may no longer give finite results.

    Args:
        folder: Folder of the checkpoints.
        parts: Everything that the next step depends on, by name.
        run: Properties that must be unchanged for a run to resume, by name, as text.
        every: Steps between checkpoints within an epoch; 0 writes them only after epochs.
        resume: Whether to resume from the last checkpoint; ``auto`` does so if there is one.
    """

    def __init__(
        self,
        folder: str | Path,
        parts: Mapping[str, Stateful],
        *,
        run: Mapping[str, str],
        every: int = 0,
        resume: bool | Literal["auto"] = "auto",
    ) -> None:
        self.folder = Path(folder)
        self.parts = parts
        self.is_writer = is_first()
        self.described = dict(run)
        self.every = every
        self.resume = resume
        self._good: Path | None = None

    def attach(self, engine: SupervisedTrainer) -> None:
        """Register on the trainer, after all its other handlers, so that they run first."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def run(self, engine: SupervisedTrainer) -> None:
        """Run a trainer to its end, from its last intact checkpoint.

        Raises:
            OptionError: If the checkpoint is from another run, or is required but missing.
            OutputError: If a checkpoint cannot be written.
        """
        self.restore(engine)
        state = engine.state
        if state.iteration >= state.max_epochs * state.epoch_length:
            logger.info("All %d epochs are done.", state.max_epochs)
            return
        if state.iteration:
            told = "Training goes on after step %d, in epoch %d."
            logger.info(told, state.iteration, state.epoch + 1)
        engine.run()

    def restore(self, engine: SupervisedTrainer) -> bool:
        """Restore parts and trainer from the last intact checkpoint; return whether there is one.

        Raises:
            OptionError: If the checkpoint is from another run, or is required but missing.
        """
        content = self._last_whole() if self.resume else None
        if content is None:
            if self.resume is True:
                msg = (
                    "resume must be auto or false without a checkpoint; there is none in "
                    f"{self.folder}. "
                )
                raise OptionError(msg + "Check output_dir, or set resume to auto.")
            if self.is_writer:
                self._keep(())
            return False
        self._check_same(content, engine)
        for name, part in self.parts.items():
            part.load_state_dict(content["parts"][name])
        engine.state.iteration = content["iteration"]
        engine.state.epoch = content["iteration"] // engine.state.epoch_length
        return True

    def _check_same(self, content: Mapping[str, Any], engine: SupervisedTrainer) -> None:
        """Raise an error if a checkpoint is from another run."""
        before = {**content["run"], "steps of an epoch": str(content["epoch_length"])}
        now = {**self.described, "steps of an epoch": str(engine.state.epoch_length)}
        changed = [
            f"{name} was {before.get(name, 'not there')}, is {now.get(name, 'not there')}"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
        if changed or content["format"] != _FORMAT or content["parts"].keys() != self.parts.keys():
            msg = (
                f"resume must use the settings that the run in {self.folder} began with; got "
                f"{listed(changed, '; ') or 'a checkpoint of another version'}. Pass the same "
                "settings, another output_dir, or resume false to start over."
            )
            raise OptionError(one_line(msg))

    def _after_step(self, engine: SupervisedTrainer) -> None:
        """Write a checkpoint within an epoch, unless gradients are still accumulating."""
        place = engine.state.iteration % engine.state.epoch_length
        if self.every and place and place % engine.accumulation_steps == 0:
            before = max(0, place - engine.accumulation_steps)
            if place // self.every > before // self.every:
                self._write(engine)

    def _write(self, engine: SupervisedTrainer) -> None:
        """Write a checkpoint and read it back; keep the last good one, and remove the others."""
        state = engine.state
        is_end = state.iteration == state.max_epochs * state.epoch_length
        if not self.is_writer or (state.is_skipped and not is_end):
            return
        content = {
            "format": _FORMAT,
            "run": self.described,
            "iteration": state.iteration,
            "epoch_length": state.epoch_length,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        digest = hashlib.sha256(buffer.getbuffer()).hexdigest()[:32]
        path = self.folder / f"step-{state.iteration:08d}-{digest}.pt"
        clear_temporaries(self.folder)
        self._keep((self._good, path))
        with atomic_file(path) as file:
            file.write(buffer.getbuffer())
        if _digest_of(path) != digest:
            remove_file(path)
            msg = f"{path} must read back as it was written; it does not. Check the disk."
            raise OutputError(msg)
        self._good = path

    def _found(self) -> list[Path]:
        """Return all checkpoints, latest first."""
        if not self.folder.is_dir():
            return []
        named = [(path, _NAME.fullmatch(path.name)) for path in self.folder.iterdir()]
        steps = [(int(match[1]), path) for path, match in named if match]
        return [path for _, path in sorted(steps, reverse=True)]

    def _keep(self, kept: Collection[Path | None]) -> None:
        """Remove all checkpoints except the given ones."""
        for path in self._found():
            if path not in kept:
                remove_file(path)

    def _last_whole(self) -> dict[str, Any] | None:
        """Return the content of the last intact checkpoint."""
        for path in self._found():
            match = _NAME.fullmatch(path.name)
            assert match is not None, "they were found by it"
            if _digest_of(path) != match[2]:
                logger.warning(
                    "%s is damaged; the checkpoint before it is used.", one_line(str(path))
                )
                continue
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            self._good = path
            return content
        return None


def _digest_of(path: Path) -> str:
    return sha256_of(path)[:32]
