from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from esp_medsam.losses import Annotation, DistillationLoss, TeacherTarget
from esp_medsam.losses.distillation import on_grid_of
from esp_medsam.networks.esp_medsam import ABSENT_LOGIT


TERMS = ("embedding", "mask", "cosine", "soft_label", "prototype", "consistency")
MASK_FIELDS = (("soft_label", "logits"), ("consistency", "other_logits"))
NEEDS = (
    ("mask", "annotation"),
    ("soft_label", "logits"),
    ("prototype", "annotation"),
    ("consistency", "logits"),
)


class Student(NamedTuple):
    image_embedding: Tensor
    low_res_logits: Tensor
    patch_logits: Tensor


def student(**changes: Tensor) -> Student:
    fields = torch.randn(2, 8, 4, 4), torch.randn(2, 3, 16, 16), torch.randn(2, 3, 2, 2)
    return Student(*fields)._replace(**changes)


def only(name: str, **options: float) -> DistillationLoss:
    return DistillationLoss(**{"embedding_weight": 0.0, f"{name}_weight": 1.0, **options})


class TestEmbeddings:
    def test_without_padding_the_default_is_the_released_squared_error(self) -> None:
        ours, theirs = student(), torch.randn(2, 8, 4, 4)

        loss = DistillationLoss()(ours, TeacherTarget(theirs))

        torch.testing.assert_close(loss, nn.MSELoss()(ours.image_embedding, theirs))

    @pytest.mark.parametrize("name", ["embedding", "cosine"])
    def test_padding_counts_in_no_loss(self, name: str) -> None:
        content = torch.ones(2, 1, 64, 64, dtype=torch.bool)
        content[:, :, :, 32:] = False
        ours, theirs = student(), torch.randn(2, 8, 4, 4)
        spoiled = theirs.clone()
        spoiled[..., 2:] += 100.0

        loss = only(name)(ours, TeacherTarget(theirs, content))

        assert torch.equal(loss, only(name)(ours, TeacherTarget(spoiled, content)))
        left = ours._replace(image_embedding=ours.image_embedding[..., :2])
        torch.testing.assert_close(loss, only(name)(left, TeacherTarget(theirs[..., :2])))

    def test_a_view_of_padding_alone_has_no_loss(self) -> None:
        content = torch.zeros(2, 1, 64, 64, dtype=torch.bool)

        loss = DistillationLoss()(student(), TeacherTarget(torch.randn(2, 8, 4, 4), content))

        assert loss == 0

    def test_cosine_asks_for_directions_alone(self) -> None:
        theirs = torch.randn(2, 8, 4, 4)

        alike = only("cosine")(student(image_embedding=theirs * 3), TeacherTarget(theirs))
        opposite = only("cosine")(student(image_embedding=-theirs), TeacherTarget(theirs))

        torch.testing.assert_close(alike, torch.tensor(0.0), atol=1e-6, rtol=0)
        torch.testing.assert_close(opposite, torch.tensor(2.0))

    @pytest.mark.parametrize("finer", [1, 2, 4])
    @pytest.mark.parametrize("shift", [0, 1, 2])
    def test_a_pattern_that_is_shifted_is_shifted_alike_in_both_grids(
        self, finer: int, shift: int
    ) -> None:
        theirs = torch.zeros(1, 1, 8 * finer, 8 * finer)
        theirs[..., 2 * finer : 4 * finer, finer * (2 + shift) : finer * (4 + shift)] = 1.0

        ours = on_grid_of(torch.empty(1, 1, 8, 8), theirs)[0, 0]

        place = torch.arange(8) + 0.5
        across, down = (place * ours.sum(0)).sum(), (place * ours.sum(1)).sum()
        torch.testing.assert_close(across / ours.sum(), torch.tensor(3.0 + shift))
        torch.testing.assert_close(down / ours.sum(), torch.tensor(3.0))


class TestMasks:
    def test_soft_labels_ask_for_the_teachers_probabilities(self) -> None:
        ours, logits = student(), torch.randn(2, 3, 16, 16)
        target = TeacherTarget(torch.zeros(2, 8, 4, 4), logits=logits)
        p, q = logits.sigmoid(), ours.low_res_logits.sigmoid()
        divergence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()

        torch.testing.assert_close(only("soft_label")(ours, target), divergence.mean())
        same = only("soft_label")(ours._replace(low_res_logits=logits), target)
        torch.testing.assert_close(same, torch.tensor(0.0), atol=1e-6, rtol=0)

    def test_soft_labels_are_softer_at_a_higher_temperature(self) -> None:
        ours = student(low_res_logits=torch.full((2, 3, 16, 16), 1.0))
        target = TeacherTarget(torch.zeros(2, 8, 4, 4), logits=torch.full((2, 3, 16, 16), 4.0))

        hot = only("soft_label", temperature=100.0)(ours, target)

        # Near 0 the divergence of two outcomes is an eighth of the squared difference of logits.
        torch.testing.assert_close(hot, torch.tensor(9.0 / 8), rtol=1e-2, atol=0)

    @pytest.mark.parametrize(("name", "field"), MASK_FIELDS)
    def test_rows_that_a_modality_lacks_count_in_no_loss(self, name: str, field: str) -> None:
        ours, logits = student(), torch.randn(2, 3, 16, 16)
        absent = logits.clone()
        absent[1, 1:] = ABSENT_LOGIT
        ours.low_res_logits[1, 1:] = ABSENT_LOGIT

        loss = only(name)(ours, TeacherTarget(torch.zeros(2, 8, 4, 4))._replace(**{field: absent}))

        one_by_one = [
            only(name)(
                student(
                    image_embedding=ours.image_embedding[b : b + 1],
                    low_res_logits=ours.low_res_logits[b : b + 1, t : t + 1],
                ),
                TeacherTarget(torch.zeros(1, 8, 4, 4))._replace(
                    **{field: absent[b : b + 1, t : t + 1]}
                ),
            )
            for b, t in ((0, 0), (0, 1), (0, 2), (1, 0))
        ]
        torch.testing.assert_close(loss, torch.stack(one_by_one).mean())

    def test_consistency_is_nothing_between_views_that_agree(self) -> None:
        ours = student()
        target = TeacherTarget(torch.zeros(2, 8, 4, 4), other_logits=ours.low_res_logits.clone())

        assert only("consistency")(ours, target) == 0

    def test_rows_beyond_the_students_are_passed_over(self) -> None:
        ours, logits = student(), torch.randn(2, 3, 16, 16)
        further = torch.cat([logits, torch.full((2, 1, 16, 16), ABSENT_LOGIT)], dim=1)

        losses = [
            only("soft_label")(ours, TeacherTarget(torch.zeros(2, 8, 4, 4), logits=theirs))
            for theirs in (logits, further)
        ]

        assert torch.equal(*losses)

    def test_refuses_fewer_rows_than_the_students(self) -> None:
        target = TeacherTarget(torch.zeros(2, 8, 4, 4), logits=torch.zeros(2, 2, 16, 16))

        with pytest.raises(ValueError, match=r"rows of logits.*got \(2, 2\) and \(2, 3\)"):
            only("soft_label")(student(), target)


def annotation() -> Annotation:
    mask = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    mask[:, 0, :32] = 1
    return Annotation(mask, torch.tensor([[True, False, False], [False, False, False]]))


class TestPrototypes:
    def test_turning_all_embeddings_alike_changes_nothing(self) -> None:
        theirs = torch.randn(2, 8, 4, 4)
        turn = torch.linalg.qr(torch.randn(8, 8)).Q
        turned = torch.einsum("dc,bchw->bdhw", turn, theirs)
        target = TeacherTarget(theirs, annotation=annotation())

        loss = only("prototype")(student(image_embedding=turned), target)

        torch.testing.assert_close(loss, torch.tensor(0.0), atol=1e-6, rtol=0)
        assert only("prototype")(student(), target) > 0.01

    def test_what_is_unknown_counts_in_no_loss(self) -> None:
        theirs = torch.randn(2, 8, 4, 4)
        ours = student()
        spoiled = theirs.clone()
        spoiled[1] = torch.randn(8, 4, 4) * 100

        losses = [
            only("prototype")(ours, TeacherTarget(embedding, annotation=annotation()))
            for embedding in (theirs, spoiled)
        ]

        assert torch.equal(*losses)


class TestUnknown:
    """What is unknown counts in no term: neither pixels nor targets."""

    def gradient(self, name: str, known: Annotation) -> Tensor:
        ours = Student(*(field.requires_grad_() for field in student()))
        target = TeacherTarget(
            torch.randn(2, 8, 4, 4),
            logits=torch.randn(2, 3, 16, 16),
            annotation=known,
            other_logits=torch.randn(2, 3, 16, 16),
        )
        only(name)(ours, target).backward()
        gradient = ours.low_res_logits.grad
        if name in ("embedding", "cosine", "prototype"):
            gradient = ours.image_embedding.grad
        assert gradient is not None
        return gradient

    @pytest.mark.parametrize("name", TERMS)
    def test_pixels_of_which_nothing_is_known_teach_nothing(self, name: str) -> None:
        labeled = torch.ones(2, 1, 64, 64, dtype=torch.bool)
        labeled[..., 32:] = False
        everywhere = annotation()._replace(known=torch.ones(2, 3, dtype=torch.bool))

        gradient = self.gradient(name, everywhere._replace(labeled=labeled))

        half = gradient.shape[-1] // 2
        # Masks are raised to the size of the annotation, and so reach one cell over.
        assert not gradient[..., half + (name == "mask") :].any()
        assert gradient[..., :half].any()

    @pytest.mark.parametrize("name", ["embedding", "cosine"])
    def test_a_cell_counts_by_the_share_of_it_that_is_known(self, name: str) -> None:
        labeled = torch.ones(2, 1, 64, 64, dtype=torch.bool)
        labeled[..., 32:40] = False  # half of the third of four columns
        ours, theirs = student(), torch.randn(2, 8, 4, 4)
        target = TeacherTarget(theirs, annotation=annotation()._replace(labeled=labeled))

        loss = only(name)(ours, target)

        columns = [
            only(name)(
                ours._replace(image_embedding=ours.image_embedding[..., c : c + 1]),
                TeacherTarget(theirs[..., c : c + 1]),
            )
            for c in range(4)
        ]
        share = torch.tensor([1.0, 1.0, 0.5, 1.0])
        torch.testing.assert_close(loss, (torch.stack(columns) * share).sum() / share.sum())

    @pytest.mark.parametrize("name", ["mask", "soft_label", "consistency"])
    def test_targets_of_which_nothing_is_known_teach_nothing(self, name: str) -> None:
        gradient = self.gradient(name, annotation())  # one target of one image is known

        assert gradient[0, 0].any()
        gradient[0, 0] = 0
        assert not gradient.any()


class TestDistillationLoss:
    def test_is_the_weighted_sum_of_its_terms(self) -> None:
        loss = DistillationLoss(
            embedding_weight=2.0,
            mask_weight=1.5,
            cosine_weight=0.5,
            soft_label_weight=3.0,
            prototype_weight=0.1,
            consistency_weight=0.7,
        )
        ours = student()
        target = TeacherTarget(
            torch.randn(2, 8, 8, 8),
            logits=torch.randn(2, 3, 16, 16),
            annotation=annotation(),
            other_logits=torch.randn(2, 3, 16, 16),
        )

        terms = loss.terms(ours, target)

        assert terms.keys() == loss.weights.keys()
        expected = sum(loss.weights[name] * term for name, term in terms.items())
        torch.testing.assert_close(loss(ours, target), expected)

    @pytest.mark.parametrize("name", TERMS)
    def test_each_term_teaches_the_student_and_not_the_teacher(self, name: str) -> None:
        ours = Student(*(field.requires_grad_() for field in student()))
        theirs = TeacherTarget(
            torch.randn(2, 8, 4, 4, requires_grad=True),
            logits=torch.randn(2, 3, 16, 16, requires_grad=True),
            annotation=annotation(),
            other_logits=torch.randn(2, 3, 16, 16, requires_grad=True),
        )

        only(name)(ours, theirs).backward()

        gradient = ours.image_embedding.grad
        if name in ("mask", "soft_label", "consistency"):
            gradient = ours.low_res_logits.grad
        assert gradient is not None
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0
        for given in (theirs.embedding, theirs.logits, theirs.other_logits):
            assert given.grad is None

    @pytest.mark.parametrize(("name", "lacks"), NEEDS)
    def test_refuses_a_target_that_lacks_what_a_term_needs(self, name: str, lacks: str) -> None:
        with pytest.raises(ValueError, match=f"must hold {lacks} where {name}_weight is not 0"):
            only(name)(student(), TeacherTarget(torch.zeros(2, 8, 4, 4)))

    def test_patch_prompts_have_the_weight_that_they_are_given(self) -> None:
        ours, target = student(), TeacherTarget(torch.zeros(2, 8, 4, 4), annotation=annotation())

        losses = [only("mask", patch_weight=weight)(ours, target) for weight in (0.0, 1.0, 2.0)]

        torch.testing.assert_close(losses[2] - losses[1], losses[1] - losses[0])
        assert losses[1] > losses[0]

    def test_presence_has_the_weight_that_it_is_given(self) -> None:
        class WithPresence(NamedTuple):
            image_embedding: Tensor
            low_res_logits: Tensor
            patch_logits: Tensor
            presence_logits: Tensor

        ours = WithPresence(*student(), torch.randn(2, 3))
        target = TeacherTarget(torch.zeros(2, 8, 4, 4), annotation=annotation())

        losses = [only("mask", presence_weight=weight)(ours, target) for weight in (0.0, 1.0, 2.0)]

        torch.testing.assert_close(losses[2] - losses[1], losses[1] - losses[0])
        assert losses[1] > losses[0]

    def test_refuses_weights_that_make_no_loss(self) -> None:
        with pytest.raises(ValueError, match="weights must be at least 0, and one of them"):
            DistillationLoss(embedding_weight=0.0)
        with pytest.raises(ValueError, match="weights must be at least 0"):
            DistillationLoss(cosine_weight=-1.0)
        with pytest.raises(ValueError, match="temperature must be greater than 0; got 0"):
            DistillationLoss(temperature=0)
