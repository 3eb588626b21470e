"""Distillation losses: distance of a student from its teacher, in embeddings and masks.

Both grids cover the same view, from edge to edge; the teacher's is resized to the student's.
"""

from typing import NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.losses.annotation import Annotation
from esp_medsam.losses.counting import mean_total
from esp_medsam.losses.prompted_segmentation import (
    MaskLoss,
    MaskPrediction,
    PromptedSegmentationLoss,
)


T = TypeVar("T")


class TeacherTarget(NamedTuple):
    """What a teacher says of a batch of views.

    Attributes:
        embedding: ``(B, 256, h, w)``, of the same views as the student's.
        content: Where the views show an image, ``(B, 1, H, W)`` bool; padding counts in no loss.
            None for everywhere.
        logits: The teacher's mask logits, ``(B, T', h', w')`` with T' of at least T, the rows
            beyond it absent; None from those without a decoder.
        annotation: Masks of the views; None where there are none. What they leave unknown counts in
            no loss.
        other_logits: The student's own mask logits of the same images seen otherwise and brought
            back to these views, ``(B, T, h'', w'')``; None without self-consistency.
    """

    embedding: Tensor
    content: Tensor | None = None
    logits: Tensor | None = None
    annotation: Annotation | None = None
    other_logits: Tensor | None = None

    def counted(self) -> Tensor | None:
        """Return which pixels count, ``(B, 1, H, W)`` bool: of an image, and not unknown.

        None for all.
        """
        labeled = None if self.annotation is None else self.annotation.labeled
        if self.content is None or labeled is None:
            return labeled if self.content is None else self.content
        return self.content & labeled


class StudentPrediction(MaskPrediction, Protocol):
    """The fields that the loss reads of what a student returned; masks only where a term asks."""

    @property
    def image_embedding(self) -> Tensor:
        """Image embedding, ``(B, 256, h, w)``."""


def content_weight(content: Tensor | None, like: Tensor) -> Tensor:
    """Return of each cell of ``like`` the share of ``content`` in it, ``(B, 1, h, w)`` in 0..1."""
    if content is None:
        return torch.ones_like(like[:, :1], dtype=torch.float32)
    return F.interpolate(content.float(), size=like.shape[-2:], mode="area")


def on_grid_of(student: Tensor, teacher: Tensor) -> Tensor:
    """Return a teacher's grid, ``(B, C, h, w)``, resized bilinearly to the student's."""
    if teacher.shape[-2:] == student.shape[-2:]:
        return teacher
    smaller = teacher.shape[-1] > student.shape[-1] or teacher.shape[-2] > student.shape[-2]
    return F.interpolate(
        teacher, size=student.shape[-2:], mode="bilinear", align_corners=False, antialias=smaller
    )


def _mean(each: Tensor, weight: Tensor) -> Tensor:
    """Return the mean over cells, ``(B, 1, h, w)``, by weight; 0 where nothing counts.

    Of a batch that several processes share it is over the cells of all.
    """
    return (each * weight).sum() / mean_total(weight.sum(), least=1e-6)


def embedding_error(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Return the mean squared error of embeddings, the released loss: over channels and cells.

    Source: ``nn.MSELoss`` in De-LightSAM's train.py, its only loss; without padding it is the same
    number.
    """
    return _mean((student - teacher).pow(2).mean(1, keepdim=True), weight)


def embedding_cosine(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of 1 - cosine over cells, 0..2: of directions, whatever the lengths.

    Source: stage 1 of EfficientSAM3, where it accompanies the squared error.
    """
    return _mean(1 - F.cosine_similarity(student, teacher, dim=1)[:, None], weight)


def soft_label_error(
    student: Tensor, teacher: Tensor, weight: Tensor, counts: Tensor, temperature: float
) -> Tensor:
    """Return how far mask probabilities are from the teacher's: KL divergence of two outcomes.

    Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015, with its
    factor of the squared temperature, which keeps gradients alike.

    Args:
        student: Mask logits, ``(B, T, h, w)``.
        teacher: The teacher's, of the same shape.
        weight: Share of pixels that count, ``(B, 1, h, w)``.
        counts: Which rows count, ``(B, T)`` bool.
        temperature: Logits are divided by it.
    """
    soft = (teacher / temperature).sigmoid()
    cross = F.binary_cross_entropy_with_logits(student / temperature, soft, reduction="none")
    entropy = F.binary_cross_entropy(soft, soft, reduction="none")
    return _mean((cross - entropy) * temperature**2, weight * counts[:, :, None, None])


def prototype_error(
    student: Tensor, teacher: Tensor, weight: Tensor, annotation: Annotation
) -> Tensor:
    """Return how differently embeddings lie about the mean of their class.

    The cosine of each cell with the mean embedding of its class, a target or what is around it, is
    compared between student and teacher by its squared error.

    Source: Wang et al., "Intra-class feature variation distillation for semantic segmentation",
    ECCV 2020.

    Args:
        student: Embeddings, ``(B, C, h, w)``.
        teacher: The teacher's, of the same shape.
        weight: Share of pixels that count, ``(B, 1, h, w)``.
        annotation: Masks and which targets are known.
    """
    size = student.shape[-2:]
    inside = F.interpolate(annotation.mask.float(), size=size, mode="area")
    known = annotation.known[:, :, None, None] * weight
    total = student.new_zeros(())
    cells = mean_total(known.sum(), least=1e-6)
    for share in (inside * known, (1 - inside) * known):  # (B, T, h, w)
        ours, theirs = (_to_prototype(embedding, share) for embedding in (student, teacher))
        total = total + ((ours - theirs).pow(2) * share).sum() / cells
    return total


def _to_prototype(embedding: Tensor, share: Tensor) -> Tensor:
    """Return the cosine of each cell with the mean embedding of each class, ``(B, T, h, w)``."""
    prototype = torch.einsum("bchw,bthw->btc", embedding, share)  # its length does not matter
    return torch.einsum(
        "bchw,btc->bthw", F.normalize(embedding, dim=1), F.normalize(prototype, dim=2)
    )


def consistency_error(student: Tensor, other: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Return the mean squared difference of a student's probabilities in two views of an image.

    Source: Tarvainen and Valpola, "Mean teachers are better role models", 2017; no gradient goes
    into the other view.

    Args:
        student: Mask logits, ``(B, T, h, w)``.
        other: Those of the other view, brought back to this one, of the same shape.
        weight: Share of pixels that count, ``(B, 1, h, w)``.
        counts: Which rows count, ``(B, T)`` bool.
    """
    difference = student.sigmoid() - other.detach().sigmoid()
    return _mean(difference.pow(2), weight * counts[:, :, None, None])


_HELD = -9e3
"""Logits of rows that a modality lacks lie below it, see ``networks.esp_medsam.ABSENT_LOGIT``."""


class DistillationLoss(nn.Module):
    """Weighted sum of what tells a student from its teacher. A term of weight 0 is not computed.

    The defaults are the released loss alone. Weights of the others are known from no code or paper
    of ESP-MedSAM.

    Args:
        embedding_weight: Of :func:`embedding_error`.
        mask_weight: Of the loss of masks and patch prompts against the annotation; the released
            code has it only as a comment. The views need masks.
        patch_weight: Of patch prompts within the loss of masks.
        presence_weight: Of presence within the loss of masks, where it is predicted.
        mask_loss: Which loss of masks that is.
        cosine_weight: Of :func:`embedding_cosine`.
        soft_label_weight: Of :func:`soft_label_error`; the teacher needs a decoder.
        prototype_weight: Of :func:`prototype_error`; the views need masks.
        consistency_weight: Of :func:`consistency_error`; each image is to be seen twice.
        temperature: Of the soft labels.

    Raises:
        ValueError: If a weight is negative, all are 0, or the temperature is not positive.
    """

    def __init__(
        self,
        *,
        embedding_weight: float = 1.0,
        mask_weight: float = 0.0,
        patch_weight: float = 0.5,
        presence_weight: float = 0.5,
        mask_loss: MaskLoss = "per_target",
        cosine_weight: float = 0.0,
        soft_label_weight: float = 0.0,
        prototype_weight: float = 0.0,
        consistency_weight: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.weights = {
            "embedding": embedding_weight,
            "mask": mask_weight,
            "cosine": cosine_weight,
            "soft_label": soft_label_weight,
            "prototype": prototype_weight,
            "consistency": consistency_weight,
        }
        if min(self.weights.values()) < 0 or not any(self.weights.values()):
            msg = f"weights must be at least 0, and one of them greater; got {self.weights}."
            raise ValueError(msg)
        if temperature <= 0:
            msg = f"temperature must be greater than 0; got {temperature}."
            raise ValueError(msg)
        self.temperature = temperature
        self.masks = PromptedSegmentationLoss(
            patch_weight=patch_weight, presence_weight=presence_weight, mask_loss=mask_loss
        )

    def forward(self, prediction: StudentPrediction, target: TeacherTarget) -> Tensor:
        """Return the loss, a scalar.

        Args:
            prediction: What the student returned.
            target: What the teacher says of the same views; no gradient goes into it.

        Raises:
            ValueError: If the target lacks what a term needs.
        """
        terms = self.terms(prediction, target)
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()

    def terms(self, prediction: StudentPrediction, target: TeacherTarget) -> dict[str, Tensor]:
        """Return the terms of weight above 0 by name, not yet weighted: scalars.

        Args:
            prediction: What the student returned.
            target: What the teacher says of the same views.

        Raises:
            ValueError: If the target lacks what a term needs.
        """
        terms: dict[str, Tensor] = {}
        student = prediction.image_embedding.float()
        teacher = on_grid_of(student, target.embedding.detach().float())
        weight = content_weight(target.counted(), student)
        if self.weights["embedding"]:
            terms["embedding"] = embedding_error(student, teacher, weight)
        if self.weights["mask"]:
            annotation = _required(target.annotation, "annotation", "mask_weight")
            terms["mask"] = self.masks(prediction, annotation)
        if self.weights["cosine"]:
            terms["cosine"] = embedding_cosine(student, teacher, weight)
        if self.weights["prototype"]:
            annotation = _required(target.annotation, "annotation", "prototype_weight")
            terms["prototype"] = prototype_error(student, teacher, weight, annotation)
        return terms | self._mask_terms(prediction, target)

    def _mask_terms(
        self, prediction: StudentPrediction, target: TeacherTarget
    ) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        for name, other in (("soft_label", target.logits), ("consistency", target.other_logits)):
            if not self.weights[name]:
                continue
            logits = prediction.low_res_logits.float()
            theirs = _required(other, "logits", f"{name}_weight").detach().float()
            if theirs.shape[1] < logits.shape[1]:
                msg = (
                    "a teacher must have as many rows of logits as its student; got "
                    f"{tuple(theirs.shape[:2])} and {tuple(logits.shape[:2])}."
                )
                raise ValueError(msg)
            theirs = theirs[:, : logits.shape[1]]
            # Before it is resized, in which the marker of absent rows stays what it is.
            counts = (theirs.amax((2, 3)) > _HELD) & (logits.amax((2, 3)) > _HELD)
            if target.annotation is not None:
                counts = counts & target.annotation.known[:, : logits.shape[1]]
            theirs, weight = on_grid_of(logits, theirs), content_weight(target.counted(), logits)
            if name == "soft_label":
                terms[name] = soft_label_error(logits, theirs, weight, counts, self.temperature)
            else:
                terms[name] = consistency_error(logits, theirs, weight, counts)
        return terms


def _required(value: T | None, name: str, weight: str) -> T:
    if value is None:
        msg = f"target must hold {name} where {weight} is not 0; it holds none."
        raise ValueError(msg)
    return value
