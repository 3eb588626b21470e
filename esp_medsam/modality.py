"""The table of modalities and targets: immutable, read from the bundle's ``targets.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from esp_medsam.errors import ModalityError, TableError, TargetError, listed, one_of, quoted
from esp_medsam.table_reader import ALL, TableReader, read_table
from esp_medsam.targets import (
    IMAGE_ENCODERS,
    PROMPTS,
    RELEASED_INDICES,
    THRESHOLD,
    TIERS,
    CleanUp,
    Code,
    ImageEncoderName,
    Modality,
    Prompt,
    Target,
)


__all__ = [
    "ALL",
    "IMAGE_ENCODERS",
    "PROMPTS",
    "RELEASED_INDICES",
    "THRESHOLD",
    "TIERS",
    "CleanUp",
    "Code",
    "ImageEncoderName",
    "Modality",
    "ModalityTable",
    "Prompt",
    "Target",
    "read_table",
]


ONLY_DICOM = "only DICOM states it"
"""Reason why the modality of a file that is not DICOM must be given."""


def modality_needed(names: Iterable[str], source: str = "", reason: str = "") -> ModalityError:
    """Return the error for an image whose modality is not stated; it is never guessed.

    Args:
        names: The possible modalities.
        source: The file or the volume; empty for all files.
        reason: Why the file does not state its modality.
    """
    what = f" for {source}" if source else ""
    why = f", because {reason}" if reason else ""
    msg = f"modality must be given{what}{why}. Pass `modality`, one of {', '.join(names)}."
    return ModalityError(msg)


@dataclass(frozen=True)
class ModalityTable:
    """All modalities, in the order of the file.

    Attributes:
        modalities: The modalities.
        neutral_dicom_modalities: Values of DICOM's Modality that leave the modality open.
        presence: Whether the network predicts for each target if an image holds it.
        prompt: How the network turns its patch logits into a prompt, one of :data:`PROMPTS`.
        image_encoder: The network's image encoder, one of :data:`IMAGE_ENCODERS`.
    """

    modalities: tuple[Modality, ...]
    neutral_dicom_modalities: tuple[str, ...] = ()
    presence: bool = False
    prompt: Prompt = "hard"
    image_encoder: ImageEncoderName = "tiny_vit"

    @classmethod
    def read(cls, path: str | Path) -> ModalityTable:
        """Return the table in the YAML file at ``path``.

        Raises:
            TableError: If the file cannot be read or breaks a rule; every problem is named
                with its key.
        """
        return cls.of(read_table(path), str(path))

    @classmethod
    def of(cls, content: Any, source: str) -> ModalityTable:
        """Return the table in plain data.

        Args:
            content: Parsed YAML.
            source: Name of the data in messages, such as its file.

        Raises:
            TableError: If the data breaks a rule; every problem is named with its key.
        """
        reader = TableReader()
        rows = reader.table(content)
        if reader.problems:
            msg = f"{source} must be a valid table of modalities; {listed(reader.problems, '; ')}."
            raise TableError(msg)
        return cls(*rows)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(modality.name for modality in self.modalities)

    @property
    def indices(self) -> dict[str, int]:
        """Index of each modality, by name."""
        return {modality.name: modality.index for modality in self.modalities}

    @property
    def target_names(self) -> dict[str, list[str]]:
        """Names of the targets of each modality, by modality, in the order of the channels."""
        return {m.name: [target.name for target in m.targets] for m in self.modalities}

    @property
    def adapted(self) -> dict[str, list[str]]:
        """Names of the targets that have an adapter, by modality."""
        named = {m.name: [t.name for t in m.targets if t.adapter] for m in self.modalities}
        return {modality: names for modality, names in named.items() if names}

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Modality:
        """Return the modality with this name or DICOM name (``CT``, ``MR``, ``US``).

        Raises:
            ModalityError: If there is no such modality.
        """
        for modality in self.modalities:
            if name == modality.name or name in modality.dicom_modalities:
                return modality
        msg = f"modality {one_of(self.names)}; got {quoted(name)}."
        raise ModalityError(msg)

    def select(self, modality: str, targets: Sequence[str] | None = None) -> tuple[Target, ...]:
        """Return the chosen targets of a modality, in table order.

        Args:
            modality: Name of the modality.
            targets: Names of the targets, in any order; a single name may be given as a string;
                ``all`` chooses all targets, None the ready ones.

        Raises:
            ModalityError: If the modality is unknown.
            TargetError: If a target is unknown or given twice, if the choice is empty, or if no
                target is named and none is ready.
        """
        available = self[modality].targets
        if targets is None:
            return _ready(modality, available)
        chosen = [targets] if isinstance(targets, str) else list(targets)
        if chosen == [ALL]:
            return available
        valid = [target.name for target in available]
        unknown = [name for name in chosen if name not in valid]
        repeated = sorted({name for name in chosen if chosen.count(name) > 1})
        if not chosen or unknown or repeated:
            got = listed([quoted(name) for name in unknown or repeated]) if chosen else "none"
            twice = " twice" if repeated and not unknown else ""
            msg = (
                f"targets of {modality} must be chosen from {', '.join(valid)}, each once; "
                f"got {got}{twice}."
            )
            raise TargetError(msg)
        return tuple(target for target in available if target.name in chosen)

    def with_masks(
        self,
        *,
        threshold: float | None = None,
        largest_component: bool | None = None,
        min_ml: float | None = None,
    ) -> ModalityTable:
        """Return the table with other rules for how probabilities become masks.

        Args:
            threshold: Probability from which a voxel belongs to a target; None keeps each target's.
            largest_component: Whether only the largest component is kept; None as above.
            min_ml: Volume below which components of volumes are dropped; None as above.
        """

        def changed(target: Target) -> Target:
            own = target.clean_up
            largest = own.largest_component if largest_component is None else largest_component
            least = own.min_ml if min_ml is None else min_ml
            return replace(
                target,
                threshold=target.threshold if threshold is None else threshold,
                clean_up=replace(own, largest_component=largest, min_ml=least),
            )

        modalities = (
            replace(one, targets=tuple(map(changed, one.targets))) for one in self.modalities
        )
        return replace(self, modalities=tuple(modalities))

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain lists and dictionaries, for ``json.dumps``."""
        return {
            "modalities": [asdict(modality) for modality in self.modalities],
            "neutral_dicom_modalities": list(self.neutral_dicom_modalities),
            "presence": self.presence,
            "prompt": self.prompt,
            "image_encoder": self.image_encoder,
        }


def _ready(modality: str, available: tuple[Target, ...]) -> tuple[Target, ...]:
    ready = tuple(target for target in available if target.tier == "ready")
    if not ready:
        names = listed([target.name for target in available])
        msg = (
            f"targets of {modality} must be chosen, because none is marked ready; there are "
            f"{names}. "
        )
        raise TargetError(msg + f"Pass `targets` with some of them, or {ALL}.")
    return ready
