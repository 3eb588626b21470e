from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from esp_medsam.losses import (
    Annotation,
    PatchPromptLoss,
    PresenceLoss,
    PromptedSegmentationLoss,
    ReleasedMaskLoss,
    SegmentationLoss,
    patch_target,
)


class Predicted(NamedTuple):
    low_res_logits: Tensor
    patch_logits: Tensor


@pytest.fixture
def annotation() -> Annotation:
    mask = torch.zeros(2, 3, 64, 64)
    mask[0, 0, 8:24, 8:24] = 1
    mask[1, 1, 40:, 40:] = 1
    known = torch.tensor([[True, False, True], [False, True, False]])
    return Annotation(mask, known)


class TestSegmentationLoss:
    def test_is_near_zero_for_the_right_mask_and_large_for_its_opposite(
        self, annotation: Annotation
    ) -> None:
        right = (annotation.mask * 2 - 1) * 20

        assert SegmentationLoss()(right, annotation) < 1e-3
        assert SegmentationLoss()(-right, annotation) > 10

    def test_unknown_targets_neither_count_nor_get_a_gradient(self, annotation: Annotation) -> None:
        logits = torch.randn(2, 3, 64, 64, requires_grad=True)

        loss = SegmentationLoss()(logits, annotation)
        loss.backward()

        changed = logits.detach().clone()
        changed[~annotation.known] += 5
        assert SegmentationLoss()(changed, annotation) == loss.detach()
        assert logits.grad is not None
        assert (logits.grad[~annotation.known] == 0).all()
        assert (logits.grad[annotation.known] != 0).any()

    def test_masks_that_were_not_drawn_do_not_count(self, annotation: Annotation) -> None:
        drawn = torch.zeros_like(annotation.known)
        drawn[0, 0] = True
        logits = torch.randn(annotation.mask.shape, requires_grad=True)

        SegmentationLoss()(logits, annotation._replace(drawn=drawn)).backward()

        assert annotation.known.sum() > 1
        assert logits.grad is not None
        assert (logits.grad.flatten(2).any(2) == drawn).all()

    def test_a_target_known_to_be_absent_is_pushed_down(self, annotation: Annotation) -> None:
        """Row 2 of image 0 is known and empty."""
        logits = torch.zeros(2, 3, 64, 64, requires_grad=True)

        SegmentationLoss()(logits, annotation).backward()

        assert logits.grad is not None
        assert (logits.grad[0, 2] > 0).all()

    def test_an_absent_target_counts_by_cross_entropy_alone(self) -> None:
        empty = Annotation(torch.zeros(1, 1, 64, 64), torch.ones(1, 1, dtype=torch.bool))
        logits = torch.randn(1, 1, 64, 64)

        loss = SegmentationLoss()(logits, empty)

        bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, empty.mask)
        torch.testing.assert_close(loss, bce)

    def test_small_and_large_targets_weigh_the_same(self) -> None:
        mask = torch.zeros(1, 2, 64, 64)
        mask[0, 0, :2, :2] = 1
        mask[0, 1] = 1
        both = Annotation(mask, torch.ones(1, 2, dtype=torch.bool))
        dice = SegmentationLoss(bce_weight=0.0, smooth=0.0)
        miss_small, miss_large = (mask * 2 - 1) * 30, (mask * 2 - 1) * 30
        miss_small[0, 0], miss_large[0, 1] = -30, -30

        torch.testing.assert_close(dice(miss_small, both), dice(miss_large, both))

    def test_is_zero_where_nothing_is_known(self, annotation: Annotation) -> None:
        nothing = annotation._replace(known=torch.zeros_like(annotation.known))

        assert SegmentationLoss()(torch.randn(2, 3, 64, 64), nothing) == 0
        assert PatchPromptLoss()(torch.randn(2, 3, 2, 2), nothing) == 0

    def test_raises_coarse_logits_to_the_masks(self, annotation: Annotation) -> None:
        coarse = torch.randn(2, 3, 16, 16)
        fine = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear")

        torch.testing.assert_close(
            SegmentationLoss()(coarse, annotation), SegmentationLoss()(fine, annotation)
        )

    def test_is_finite_for_huge_logits(self, annotation: Annotation) -> None:
        assert torch.isfinite(SegmentationLoss()(torch.full((2, 3, 64, 64), -1e4), annotation))


class TestReleasedMaskLoss:
    def test_is_what_the_authors_state_of_a_batch(self) -> None:
        logits, mask = torch.randn(4, 1, 16, 16), (torch.rand(4, 1, 16, 16) > 0.7).float()

        loss = ReleasedMaskLoss()(logits, Annotation(mask, torch.ones(4, 1, dtype=torch.bool)))

        p = logits.sigmoid()
        bce = torch.nn.BCELoss()(p, mask)
        dice = 1 - (2 * (p * mask).sum() + 1) / (p.sum() + mask.sum() + 1)
        torch.testing.assert_close(loss, 0.8 * dice + 0.2 * 0.8 * (1 - (-bce).exp()) ** 2 * bce)

    def test_what_is_unknown_has_no_gradient(self, annotation: Annotation) -> None:
        labeled = torch.ones(2, 1, 64, 64, dtype=torch.bool)
        labeled[..., 32:] = False
        logits = torch.randn(2, 3, 64, 64, requires_grad=True)

        ReleasedMaskLoss()(logits, annotation._replace(labeled=labeled)).backward()

        gradient = logits.grad
        assert gradient is not None
        assert not gradient[~annotation.known].any()
        assert not gradient[..., 32:].any()
        assert gradient[annotation.known][..., :32].all()

    def test_nothing_known_is_no_loss(self, annotation: Annotation) -> None:
        logits = torch.randn(2, 3, 64, 64, requires_grad=True)

        loss = ReleasedMaskLoss()(logits, annotation._replace(known=annotation.known & False))

        loss.backward()
        assert loss == 0


class TestPatchTarget:
    def test_a_patch_is_positive_if_any_pixel_is(self) -> None:
        mask = torch.zeros(1, 1, 64, 96)
        mask[0, 0, 31, 32] = 1

        assert patch_target(mask)[0, 0].tolist() == [[0, 1, 0], [0, 0, 0]]


class TestPromptedSegmentationLoss:
    def test_adds_the_weighted_patch_loss(self, annotation: Annotation) -> None:
        predicted = Predicted(torch.randn(2, 3, 64, 64), torch.randn(2, 3, 2, 2))

        loss = PromptedSegmentationLoss(patch_weight=0.25)(predicted, annotation)

        mask_loss = SegmentationLoss()(predicted.low_res_logits, annotation)
        patch_loss = PatchPromptLoss()(predicted.patch_logits, annotation)
        torch.testing.assert_close(loss, mask_loss + 0.25 * patch_loss)

    def test_ignores_rows_that_no_modality_of_the_batch_has(self, annotation: Annotation) -> None:
        predicted = Predicted(torch.randn(2, 3, 64, 64), torch.randn(2, 3, 2, 2))
        longer = Annotation(
            torch.cat([annotation.mask, torch.ones(2, 2, 64, 64)], 1),
            torch.cat([annotation.known, torch.zeros(2, 2, dtype=torch.bool)], 1),
        )
        loss = PromptedSegmentationLoss()

        assert loss(predicted, longer) == loss(predicted, annotation)

    def test_refuses_known_rows_that_were_not_predicted(self, annotation: Annotation) -> None:
        predicted = Predicted(torch.randn(2, 2, 64, 64), torch.randn(2, 2, 2, 2))

        with pytest.raises(ValueError, match="beyond the prediction's 2"):
            PromptedSegmentationLoss()(predicted, annotation)


class TestLabeled:
    """Pixels of which nothing is known."""

    @pytest.fixture
    def partly(self, annotation: Annotation) -> Annotation:
        """Rows above 32 are labeled in image 0, all of image 1."""
        labeled = torch.ones(2, 1, 64, 64, dtype=torch.bool)
        labeled[0, :, 32:] = False
        return annotation._replace(labeled=labeled)

    def test_pixels_that_are_not_count_in_no_mask_loss(self, partly: Annotation) -> None:
        logits = torch.randn(2, 3, 64, 64, requires_grad=True)

        loss = SegmentationLoss()(logits, partly)
        loss.backward()

        mask = partly.mask.clone()
        mask[0, 0, 40:60, :] = 1
        assert SegmentationLoss()(logits, partly._replace(mask=mask)) == loss
        assert logits.grad is not None
        assert (logits.grad[0, :, 32:] == 0).all()
        assert (logits.grad[0, 0, :32] != 0).all()
        assert (logits.grad[1, 1] != 0).all()

    def test_the_loss_is_that_of_the_labeled_part_alone(self, partly: Annotation) -> None:
        logits = torch.randn(2, 3, 64, 64)
        top = Annotation(partly.mask[:1, :, :32], partly.known[:1])

        alone = SegmentationLoss()(logits[:1, :, :32], top)
        within = SegmentationLoss()(
            logits[:1], Annotation(partly.mask[:1], partly.known[:1], partly.labeled[:1])
        )

        assert within == pytest.approx(float(alone), rel=1e-5)

    def test_a_patch_with_some_that_are_not_counts_only_where_the_target_is_seen(
        self, partly: Annotation
    ) -> None:
        assert partly.labeled is not None
        partly.labeled[0, :, 16:48] = False  # of both rows of patches a part
        logits = torch.zeros(2, 3, 2, 2, requires_grad=True)

        PatchPromptLoss()(logits, partly).backward()

        assert logits.grad is not None
        assert logits.grad[0, 0].nonzero().tolist() == [[0, 0]]
        assert (logits.grad[0, 2] == 0).all()
        assert (logits.grad[1, 1] != 0).all()

    def test_without_any_there_is_no_loss(self, annotation: Annotation) -> None:
        nothing = annotation._replace(labeled=torch.zeros(2, 1, 64, 64, dtype=torch.bool))

        for loss, size in ((SegmentationLoss(), 64), (PatchPromptLoss(), 2)):
            assert loss(torch.randn(2, 3, size, size), nothing) == 0


class Present(NamedTuple):
    low_res_logits: Tensor
    patch_logits: Tensor
    presence_logits: Tensor


class TestPresenceLoss:
    def test_is_cross_entropy_with_what_is_seen_of_known_targets(
        self, annotation: Annotation
    ) -> None:
        logits = torch.randn(2, 3, requires_grad=True)

        loss = PresenceLoss()(logits, annotation)
        loss.backward()

        seen = torch.tensor([1.0, 0.0, 1.0])  # (0, 0), (0, 2) and (1, 1) are known
        bce = torch.nn.functional.binary_cross_entropy_with_logits
        torch.testing.assert_close(loss, bce(logits[annotation.known], seen))
        assert logits.grad is not None
        assert (logits.grad != 0).equal(annotation.known)

    def test_what_is_not_seen_counts_only_where_all_is_labeled(
        self, annotation: Annotation
    ) -> None:
        labeled = torch.ones(2, 1, 64, 64, dtype=torch.bool)
        labeled[0, 0, :, 60:] = False
        logits = torch.zeros(2, 3, requires_grad=True)

        PresenceLoss()(logits, annotation._replace(labeled=labeled)).backward()

        assert logits.grad is not None
        assert (logits.grad < 0).tolist() == [[True, False, False], [False, True, False]]
        assert logits.grad[0, 2] == 0

    def test_foreground_that_is_not_labeled_is_not_seen(self) -> None:
        mask = torch.ones(1, 1, 32, 32)
        labeled = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
        annotation = Annotation(mask, torch.ones(1, 1, dtype=torch.bool), labeled)

        assert PresenceLoss()(torch.ones(1, 1), annotation) == 0

    def test_is_zero_where_nothing_is_known(self) -> None:
        annotation = Annotation(torch.ones(1, 2, 32, 32), torch.zeros(1, 2, dtype=torch.bool))

        assert PresenceLoss()(torch.randn(1, 2), annotation) == 0

    def test_counts_by_its_weight_where_the_network_predicts_it(
        self, annotation: Annotation
    ) -> None:
        masks, patches, presence = (
            torch.zeros(2, 3, 64, 64),
            torch.zeros(2, 3, 2, 2),
            torch.ones(2, 3),
        )
        loss = PromptedSegmentationLoss(presence_weight=0.25)
        without = loss(Predicted(masks, patches), annotation)

        assert loss(Present(masks, patches, presence[:, :0]), annotation) == without
        torch.testing.assert_close(
            loss(Present(masks, patches, presence), annotation),
            without + 0.25 * PresenceLoss()(presence, annotation),
        )
