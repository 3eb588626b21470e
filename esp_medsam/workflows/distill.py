"""Building blocks of the distillation stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from esp_medsam.losses import Annotation, TeacherTarget
from esp_medsam.losses.distillation import content_weight, embedding_cosine, on_grid_of
from esp_medsam.training_settings import DistillSettings
from esp_medsam.workflows.forward import dice_inputs
from esp_medsam.workflows.teacher_network import Teacher, TeacherSays
from esp_medsam.workflows.training_data import prepare_batch


EMBEDDING = "teacher_embedding"
LOGITS = "teacher_logits"
"""Keys of the stored teacher outputs in a batch."""


def resume_settings(settings: DistillSettings, teacher: Teacher) -> dict[str, str]:
    """Return, as text, the settings that must match to resume distillation, except file paths."""
    paths = {"teacher_weights", "embeddings"}
    told = {name: str(getattr(settings, name)) for name in type(settings).model_fields}
    plain = {name: value for name, value in told.items() if name not in paths}
    return {
        **plain,
        "teacher_weights": teacher.identity,
        "embeddings": str(bool(settings.embeddings)),
    }


class TeacherBatches:
    """Prepare batches for MONAI's engines, with a teacher's output in place of the annotation.

    A batch that contains ``teacher_embedding``, ``(B, 256, h, w)``, is not passed to the teacher
    again; it also has ``teacher_logits``, ``(B, T, h', w')``, if the teacher predicts masks.

    Args:
        teacher: The teacher.
        pixel_mean: Mean per channel used to normalize the student's images.
        pixel_std: Standard deviation per channel used likewise.
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
        """Return the image, the teacher's target, the modality as an argument, and options."""
        image, annotation, arguments, _ = prepare_batch(batch, device, non_blocking)
        annotation = annotation._replace(drawn=None)  # the teacher predicts all targets
        embedding, logits = batch.get(EMBEDDING), batch.get(LOGITS)
        if embedding is None:
            embedding, logits = self.says(image, *arguments)
        target = TeacherTarget(
            embedding.to(device),
            batch["content"].to(device, non_blocking=non_blocking),
            logits=None if logits is None else logits.to(device),
            annotation=annotation,
        )
        return image, target, arguments, {}

    def says(self, image: Tensor, modality: Tensor) -> TeacherSays:
        """Return the teacher's output for a student's input.

        Args:
            image: Images normalized for the student, ``(B, 3, H, W)``.
            modality: Modality index of each image, ``(B,)``.
        """
        image = image.to(self.teacher.mean)
        shown = image * self.std.to(image) + self.mean.to(image)
        said: TeacherSays = self.teacher(shown.clamp(0.0, 1.0), modality.to(image.device))
        return said


@dataclass(eq=False)
class SeenAgain:
    """Prepare batches that also hold the student's own masks of a changed view of the images.

    The changed view differs only in contrast, brightness and noise, not in geometry, so that no
    side is swapped and no mask needs to be mapped back. The student predicts it in evaluation mode
    and without gradients.

    Args:
        batches: Callable that prepares the batch without these masks.
        student: Network that predicts from normalized images and modality indices.
        asked: Whether to add the masks.
    """

    batches: TeacherBatches
    student: nn.Module
    _: KW_ONLY
    asked: bool

    CONTRAST = 0.3
    BRIGHTNESS = 0.3
    NOISE = 0.1
    """Largest deviation of contrast from 1 and brightness from 0, and noise level, in standard
    deviations of the normalized image."""

    def __call__(
        self, batch: Mapping[str, Tensor], device: torch.device | str, non_blocking: bool = False
    ) -> tuple[Tensor, TeacherTarget, tuple[Tensor], dict[str, Any]]:
        """Return the image, the target, the modality as an argument, and options."""
        image, target, arguments, options = self.batches(batch, device, non_blocking)
        if self.asked:
            with torch.no_grad(), _evaluating(self.student):
                seen = self.student(self.changed_view(image, target.content), *arguments, **options)
            target = target._replace(other_logits=seen.low_res_logits)
        return image, target, arguments, options

    def changed_view(self, image: Tensor, content: Tensor | None) -> Tensor:
        """Return normalized images with changed contrast, brightness and noise; padding stays 0.

        Args:
            image: Normalized images, ``(B, 3, H, W)``.
            content: Mask of the pixels that are not padding, ``(B, 1, H, W)`` bool; None for all.
        """
        contrast, brightness = (
            most * (2 * torch.rand(len(image), 1, 1, 1, device=image.device) - 1)
            for most in (self.CONTRAST, self.BRIGHTNESS)
        )
        added = brightness + self.NOISE * torch.randn_like(image)
        return image * (1 + contrast) + (added if content is None else added * content)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode, then restore the mode of each module."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def embedding_similarity(output: Mapping[str, Any]) -> float:
    """Return the mean cosine similarity of student and teacher embeddings in a batch.

    Padding does not count; 1 means full agreement.
    """
    student, target = output["pred"].image_embedding.float(), output["label"]
    teacher = on_grid_of(student, target.embedding.float())
    away = embedding_cosine(student, teacher, content_weight(target.content, student))
    return 1.0 - float(away.detach())


def masks_and_truth(output: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return the student's masks and the truth, ``(B, T, H, W)`` each, as ``dice_inputs`` does."""
    return dice_inputs({**output, "label": annotation_of(output)})


def annotation_of(output: Mapping[str, Any]) -> Annotation:
    """Return the annotation of a batch that was passed to a teacher."""
    annotation: Annotation = output["label"].annotation
    return annotation
