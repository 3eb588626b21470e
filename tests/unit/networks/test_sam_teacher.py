from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from esp_medsam.networks import ESPMedSAM
from esp_medsam.networks.builders import build_teacher
from esp_medsam.networks.modality_controller import route
from esp_medsam.networks.sam_checkpoint import SAM_VARIANTS, SAMVariant, encoder_entries
from esp_medsam.networks.sam_teacher import (
    SAMTeacherEncoder,
    attend,
    relative_positions,
    resized_positions,
)
from tests.support.tiny_sam import TinySAM


FIRST = route(0, None, 2)


@pytest.fixture
def plain() -> TinySAM:
    return TinySAM().eval()


def teacher_of(plain: TinySAM) -> SAMTeacherEncoder:
    return SAMTeacherEncoder(copy.deepcopy(plain), ["ct", "fundus"], tokens=5)


def masked_out(teacher: SAMTeacherEncoder) -> SAMTeacherEncoder:
    with torch.no_grad():
        for name, parameter in teacher.named_parameters():
            if name.endswith(".bias") and ".tokens." in name:
                parameter.fill_(-torch.inf)
    return teacher


def moved(teacher: SAMTeacherEncoder) -> SAMTeacherEncoder:
    """Move tokens and adapters off what they start from."""
    with torch.no_grad():
        for parameter in teacher.prompts.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return teacher


class TestSAMTeacherEncoder:
    def test_is_the_plain_encoder_where_tokens_are_masked_out(self, plain: TinySAM) -> None:
        image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
        plain.double()

        embedding = masked_out(teacher_of(plain)).double()(image, FIRST).image_embedding

        torch.testing.assert_close(embedding, plain(image), rtol=0, atol=1e-6)

    def test_starts_near_the_plain_encoder(self, plain: TinySAM) -> None:
        image = torch.randn(2, 3, 64, 64)

        embedding = teacher_of(plain)(image, FIRST).image_embedding

        plainly = plain(image)
        change = (embedding - plainly).norm() / plainly.norm()
        assert 0 < change < 0.02  # windows of 9 places feel five tokens more than SAM's of 196

    @pytest.mark.parametrize("block", [0, 1], ids=["in windows", "over the whole grid"])
    def test_tokens_join_keys_and_values_and_have_no_position(
        self, plain: TinySAM, block: int
    ) -> None:
        teacher = moved(teacher_of(plain))
        grid = torch.randn(1, 3, 3, 24) if block == 0 else torch.randn(1, 4, 4, 24)
        key, value, bias = teacher.prompts[block].of(FIRST, 1)
        attended = attend(teacher.encoder.blocks[block], grid, key, value, bias)

        torch.testing.assert_close(
            attended, spelled_out(plain, block, grid, key, value, bias), rtol=1e-4, atol=1e-5
        )

    def test_every_window_of_an_image_sees_its_own_modality(self, plain: TinySAM) -> None:
        teacher = moved(teacher_of(plain)).eval()
        image = torch.randn(3, 3, 64, 64)

        mixed = teacher(image, route(0, torch.tensor([1, 0, 1]), 2)).image_embedding

        for place, controller in enumerate((1, 0, 1)):
            alone = teacher(image[place : place + 1], route(controller, None, 2)).image_embedding
            torch.testing.assert_close(mixed[place : place + 1], alone, rtol=1e-4, atol=1e-5)

    def test_adapter_takes_what_the_second_norm_gives(self, plain: TinySAM) -> None:
        teacher = masked_out(teacher_of(plain))
        seen: list[Tensor] = []
        teacher.prompts[0].adapter.register_forward_hook(lambda _, given, __: seen.append(given[0]))
        normalized: list[Tensor] = []
        plain.blocks[0].norm2.register_forward_hook(lambda _, __, out: normalized.append(out))
        image = torch.randn(1, 3, 64, 64)

        teacher(image, FIRST)
        plain(image)

        torch.testing.assert_close(seen[0], normalized[0], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("size", [(32, 32), (96, 64), (128, 128)])
    def test_takes_other_sizes_than_it_was_made_for(
        self, plain: TinySAM, size: tuple[int, int]
    ) -> None:
        features = teacher_of(plain)(torch.randn(1, 3, *size), FIRST)

        assert features.image_embedding.shape == (1, 256, size[0] // 16, size[1] // 16)
        assert features.image_embedding.isfinite().all()
        assert features.pyramid == []

    def test_the_frozen_encoder_stays_in_evaluation_mode(self, plain: TinySAM) -> None:
        teacher = teacher_of(plain)

        teacher.train()

        assert teacher.prompts.training
        assert not any(module.training for module in teacher.encoder.modules())

    def test_refuses_no_tokens(self, plain: TinySAM) -> None:
        with pytest.raises(ValueError, match="tokens must be at least 1"):
            SAMTeacherEncoder(plain, ["ct"], tokens=0)


def spelled_out(
    plain: TinySAM, block: int, grid: Tensor, key: Tensor, value: Tensor, bias: Tensor
) -> Tensor:
    """Return one window's attention, token by token, head by head."""
    attention = plain.blocks[block].attn
    _, h, w, width = grid.shape
    d = width // attention.num_heads
    qkv = attention.qkv(grid).view(h * w, 3, attention.num_heads, d)
    mixed = torch.zeros(h * w, attention.num_heads, d)
    for head in range(attention.num_heads):
        keys = torch.cat([qkv[:, 1, head], key[0, head]])
        values = torch.cat([qkv[:, 2, head], value[0, head]])
        for place in range(h * w):
            query = qkv[place, 0, head]
            logits = keys @ query * d**-0.5
            for other in range(h * w):
                down = place // w - other // w + h - 1
                right = place % w - other % w + w - 1
                logits[other] += query @ (attention.rel_pos_h[down] + attention.rel_pos_w[right])
            logits[h * w :] += bias
            mixed[place, head] = logits.softmax(0) @ values
    return attention.proj(mixed.reshape(1, h, w, width))


class TestPositions:
    def test_are_exact_at_the_size_they_were_made_for(self) -> None:
        table = torch.randn(7, 3)
        positions = torch.randn(1, 4, 5, 3)

        assert torch.equal(relative_positions(table, 4)[2, 0], table[2 - 0 + 3])
        assert resized_positions(positions, 4, 5) is positions

    def test_are_interpolated_at_others(self) -> None:
        table = torch.linspace(-3, 3, 7)[:, None]  # the difference itself

        wider = relative_positions(table, 8)

        assert wider.shape == (8, 8, 1)
        torch.testing.assert_close(wider, -wider.transpose(0, 1), rtol=0, atol=1e-5)
        assert (wider.diff(dim=0) >= 0).all()
        constant = resized_positions(torch.ones(1, 4, 4, 2), 6, 9)
        torch.testing.assert_close(constant, torch.ones(1, 6, 9, 2))


class TestBuildTeacher:
    def test_trains_adapters_tokens_generator_decoder_and_queries_alone(
        self, plain: TinySAM
    ) -> None:
        teacher = make_teacher(plain)
        before = {name: value.clone() for name, value in teacher.state_dict().items()}
        for parameter in teacher.image_encoder.prompts.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.1)

        modality = torch.tensor([6, 3])
        prediction = teacher.predict(torch.randn(2, 3, 64, 64), modality)
        (prediction.low_res_logits[:, 0].sum() + prediction.patch_logits[:, 0].sum()).backward()

        with_gradient = {n for n, p in teacher.named_parameters() if p.grad is not None}
        frozen = {n for n, p in teacher.named_parameters() if not p.requires_grad}
        assert frozen == {n for n in before if n.startswith("image_encoder.encoder.")}
        assert not with_gradient & frozen
        prompts = {n for n in before if n.startswith("image_encoder.prompts.")}
        assert prompts <= with_gradient
        for part in ("prompt_generator.", "mask_decoder.", "modality_query."):
            assert any(name.startswith(part) for name in with_gradient)

    def test_segments_at_a_quarter_of_the_input_size(self, plain: TinySAM) -> None:
        prediction = make_teacher(plain).predict(torch.randn(1, 3, 64, 64), torch.tensor([6]))

        assert prediction.low_res_logits.shape == (1, 2, 16, 16)
        assert prediction.image_embedding.shape == (1, 256, 4, 4)


def make_teacher(plain: TinySAM) -> ESPMedSAM:
    return build_teacher(
        plain,
        modalities={"ct": 6, "fundus": 3},
        targets={"ct": ["liver", "kidney"], "fundus": ["vessels"]},
    )


@pytest.mark.slow
class TestTrueShapes:
    @pytest.mark.parametrize("variant", SAM_VARIANTS, ids=lambda variant: variant.name)
    def test_takes_the_published_encoders(self, variant: SAMVariant) -> None:
        with torch.device("meta"):
            plain = TinySAM(
                variant.width, variant.depth, variant.heads, variant.global_blocks, 64, 14
            )
            teacher = SAMTeacherEncoder(plain, ["ct"])
            embedding = teacher(torch.empty(1, 3, 1024, 1024), FIRST).image_embedding

        expected = {name: value.shape for name, value in encoder_entries(variant).items()}
        assert {n: v.shape for n, v in teacher.encoder.state_dict().items()} == expected
        assert len(teacher.prompts) == variant.depth
        assert embedding.shape == (1, 256, 64, 64)
