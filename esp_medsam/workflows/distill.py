"""Parts of the distillation stages that their overlays of ``train.yaml`` put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from esp_medsam.losses import Annotation, TeacherTarget
from esp_medsam.losses.distillation import content_weight, embedding_cosine, on_grid_of
from esp_medsam.settings import DistillSettings
from esp_medsam.workflows.forward import dice_inputs
from esp_medsam.workflows.teacher import Teacher
from esp_medsam.workflows.training_data import prepare_batch


EMBEDDING = "teacher_embedding"
"""Name that a batch has the teacher's embeddings by, where they are kept."""


def told_of(settings: DistillSettings, teacher: Teacher) -> dict[str, str]:
    """Return in words what must be the same for a distillation to go on, wherever files lie."""
    paths = {"teacher_weights", "embeddings"}
    told = {name: str(getattr(settings, name)) for name in type(settings).model_fields}
    plain = {name: value for name, value in told.items() if name not in paths}
    return {
        **plain,
        "teacher_weights": teacher.identity,
        "embeddings": str(bool(settings.embeddings)),
    }


class TeacherBatches:
    """Hand a batch to MONAI's engines with what a teacher says of it in place of the annotation.

    A batch that brings ``teacher_embedding``, ``(B, 256, h, w)``, is not shown to the teacher
    again.

    Args:
        teacher: The teacher.
        pixel_mean: Mean per channel that the student's images were normalized with.
        pixel_std: Their standard deviation per channel.
    """

    def __init__(
        self, teacher: Teacher, *, pixel_mean: Sequence[float], pixel_std: Sequence[float]
    ) -> None:
        self.teacher = teacher
        self.mean = torch.tensor(list(pixel_mean))[:, None, None]
        self.std = torch.tensor(list(pixel_std))[:, None, None]

    def __call__(
        self, batch: Mapping[str, Tensor], device: torch.device | str, non_blocking: bool = False
    ) -> tuple[Tensor, TeacherTarget, tuple[Tensor], dict[str, Any]]:
        """Return image, the teacher's target, and the modality as an argument."""
        image, annotation, arguments, options = prepare_batch(batch, device, non_blocking)
        embedding = batch.get(EMBEDDING)
        if embedding is None:
            embedding = self.embedding(image, *arguments)
        content = batch["content"].to(device, non_blocking=non_blocking)
        target = TeacherTarget(embedding.to(device), content, annotation=annotation)
        return image, target, arguments, options

    def embedding(self, image: Tensor, modality: Tensor) -> Tensor:
        """Return the teacher's embedding, ``(B, 256, h, w)``, of a student's input.

        Args:
            image: Normalized for the student, ``(B, 3, H, W)``.
            modality: Modality index of each image, ``(B,)``.
        """
        image = image.to(self.teacher.mean)
        shown = image * self.std.to(image) + self.mean.to(image)
        embedding: Tensor = self.teacher(shown.clamp(0.0, 1.0), modality.to(image.device))
        return embedding


def embedding_similarity(output: Mapping[str, Any]) -> float:
    """Return the mean cosine of a student's and its teacher's embeddings in a batch.

    Padding does not count; 1 is agreement.
    """
    student, target = output["pred"].image_embedding.float(), output["label"]
    teacher = on_grid_of(student, target.embedding.float())
    away = embedding_cosine(student, teacher, content_weight(target.content, student))
    return 1.0 - float(away.detach())


def masks_and_truth(output: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return the student's masks and the truth, ``(B, T, H, W)`` each, as ``dice_inputs`` does."""
    return dice_inputs({**output, "label": annotation_of(output)})


def annotation_of(output: Mapping[str, Any]) -> Annotation:
    """Return the annotation of a batch that a teacher was asked about."""
    annotation: Annotation = output["label"].annotation
    return annotation
