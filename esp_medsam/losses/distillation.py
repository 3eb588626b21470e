"""Distillation losses: distance between student and teacher in embeddings and masks.

Both grids cover the same view, edge to edge; the teacher's is resized to the student's.
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
    """Output of a teacher for a batch of views.

    Attributes:
        embedding: ``(B, 256, h, w)``, of the same views as the student's.
        content: Where the views show an image, ``(B, 1, H, W)`` bool; padding counts in no loss.
            None means everywhere.
        logits: The teacher's mask logits, ``(B, T', h', w')`` with T' at least T and absent rows
            beyond T; None for teachers without a decoder.
        annotation: Masks of the views; None if there are none. What they leave unknown counts in
            no loss.
        other_logits: The student's own mask logits of other views of the same images, mapped back
            to these views, ``(B, T, h'', w'')``; None without self-consistency.
    """

    embedding: Tensor
    content: Tensor | None = None
    logits: Tensor | None = None
    annotation: Annotation | None = None
    other_logits: Tensor | None = None

    def counted(self) -> Tensor | None:
        """Return the pixels that count, ``(B, 1, H, W)`` bool: part of an image, and not unknown.

        None means all.
        """
        labeled = None if self.annotation is None else self.annotation.labeled
        if self.content is None or labeled is None:
            return labeled if self.content is None else self.content
        return self.content & labeled


class StudentPrediction(MaskPrediction, Protocol):
    """The fields of a student's output that the loss reads; masks only if a term needs them."""

    @property
    def image_embedding(self) -> Tensor:
        """Image embedding, ``(B, 256, h, w)``."""


def content_weight(content: Tensor | None, like: Tensor) -> Tensor:
    """Return the share of ``content`` in each cell of ``like``, ``(B, 1, h, w)`` in 0..1."""
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
    """Return the weighted mean over cells, ``(B, 1, h, w)``; 0 if nothing counts.

    If several processes share a batch, the mean is over the cells of all of them.
    """
    return (each * weight).sum() / mean_total(weight.sum(), least=1e-6)


def embedding_error(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Return the mean squared error of embeddings over channels and cells: the released loss.

    Source: ``nn.MSELoss`` in De-LightSAM's train.py, its only loss; without padding, the two are
    equal.
    """
    return _mean((student - teacher).pow(2).mean(1, keepdim=True), weight)


def embedding_cosine(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of 1 - cosine over cells, 0..2: directions are compared, not lengths.

    Source: stage 1 of EfficientSAM3, which combines it with the squared error.
    """
    return _mean(1 - F.cosine_similarity(student, teacher, dim=1)[:, None], weight)


def soft_label_error(
    student: Tensor, teacher: Tensor, weight: Tensor, counts: Tensor, temperature: float
) -> Tensor:
    """Return the two-class KL divergence of mask probabilities from the teacher's.

    Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015, with its
    factor of the squared temperature, which keeps the scale of the gradients.

    Args:
        student: Mask logits, ``(B, T, h, w)``.
        teacher: Mask logits of the teacher, of the same shape.
        weight: Share of pixels that count, ``(B, 1, h, w)``.
        counts: Which rows count, ``(B, T)`` bool.
        temperature: Temperature that logits are divided by.
    """
    soft = (teacher / temperature).sigmoid()
    cross = F.binary_cross_entropy_with_logits(student / temperature, soft, reduction="none")
    entropy = F.binary_cross_entropy(soft, soft, reduction="none")
    return _mean((cross - entropy) * temperature**2, weight * counts[:, :, None, None])


def prototype_error(
    student: Tensor, teacher: Tensor, weight: Tensor, annotation: Annotation
) -> Tensor:
    """Return how differently student and teacher embeddings vary around the mean of their class.

    A class is a target or its surroundings. The cosine of each cell with the mean embedding of its
    class is compared between student and teacher by squared error.

    Source: Wang et al., "Intra-class feature variation distillation for semantic segmentation",
    ECCV 2020.

    Args:
        student: Embeddings, ``(B, C, h, w)``.
        teacher: Embeddings of the teacher, of the same shape.
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

    Source: Tarvainen and Valpola, "Mean teachers are better role models", 2017; no gradient flows
    into the other view.

    Args:
        student: Mask logits, ``(B, T, h, w)``.
        other: Mask logits of the other view, mapped back to this one, of the same shape.
        weight: Share of pixels that count, ``(B, 1, h, w)``.
        counts: Which rows count, ``(B, T)`` bool.
    """
    difference = student.sigmoid() - other.detach().sigmoid()
    return _mean(difference.pow(2), weight * counts[:, :, None, None])


_HELD = -9e3
"""Upper bound of logits in rows that a modality lacks; see ``networks.esp_medsam.ABSENT_LOGIT``."""


class DistillationLoss(nn.Module):
    """Weighted sum of terms that compare student and teacher; terms of weight 0 are not computed.

    The defaults are the released loss alone. No code or paper of ESP-MedSAM states weights for the
    other terms.

    Args:
        embedding_weight: Weight of :func:`embedding_error`.
        mask_weight: Weight of the loss of masks and patch prompts against the annotation, which the
            released code has only as a comment. The views need masks.
        patch_weight: Weight of patch prompts within the loss of masks.
        presence_weight: Weight of presence within the loss of masks, if presence is predicted.
        mask_loss: Which loss is used for masks.
        cosine_weight: Weight of :func:`embedding_cosine`.
        soft_label_weight: Weight of :func:`soft_label_error`; the teacher needs a decoder.
        prototype_weight: Weight of :func:`prototype_error`; the views need masks.
        consistency_weight: Weight of :func:`consistency_error`; each image must be seen twice.
        temperature: Temperature of the soft labels.

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
            prediction: Output of the student.
            target: Output of the teacher for the same views; no gradient flows into it.

        Raises:
            ValueError: If the target lacks what a term needs.
        """
        terms = self.terms(prediction, target)
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()

    def terms(self, prediction: StudentPrediction, target: TeacherTarget) -> dict[str, Tensor]:
        """Return the terms of weight above 0 by name, unweighted scalars.

        Args:
            prediction: Output of the student.
            target: Output of the teacher for the same views.

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
            # Before resizing, which keeps the marker of absent rows as it is.
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
