from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from esp_medsam.errors import CheckpointMismatchError
from esp_medsam.networks import build_product
from esp_medsam.networks.checkpoints import load_grown
from esp_medsam.networks.image_encoder import TinyViTImageEncoder
from esp_medsam.networks.modality_controller import Route, route
from esp_medsam.networks.state_dicts import load_into
from esp_medsam.networks.tic import (
    InterPooling,
    TiCClassifier,
    TiCImageEncoder,
    cyclic_shift,
)


CT = Route(0, None, [], None)
SIZES = [(1, 1), (31, 33), (45, 70), (64, 96), (17, 130)]


def make_encoder(**options: bool) -> TiCImageEncoder:
    """Return an encoder in evaluation mode whose norms and biases are not 0 and 1."""
    encoder = TiCImageEncoder({"ct": 6, "mri": 7}, **options).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return encoder


@pytest.fixture(scope="module")
def encoder() -> TiCImageEncoder:
    torch.manual_seed(0)
    return make_encoder()


class TestAnySize:
    @pytest.mark.parametrize("size", SIZES)
    @torch.no_grad()
    def test_grids_cover_what_the_image_is_completed_to(
        self, encoder: TiCImageEncoder, size: tuple[int, int]
    ) -> None:
        found = encoder(torch.randn(2, 3, *size), CT)

        whole = [-(-side // 32) * 32 for side in size]
        assert found.image_embedding.shape == (2, 256, whole[0] // 16, whole[1] // 16)
        assert [tuple(level.shape[1:]) for level in found.pyramid] == [
            (channels, whole[0] // stride, whole[1] // stride)
            for channels, stride in zip(encoder.pyramid_channels, (2, 4, 8), strict=True)
        ]
        assert found.image_embedding.isfinite().all()

    @pytest.mark.parametrize("size", SIZES)
    @torch.no_grad()
    def test_what_is_added_takes_no_part(
        self, encoder: TiCImageEncoder, size: tuple[int, int]
    ) -> None:
        """It is 0, and the rest is what the image's own grids give, whatever they are part of."""
        image = torch.randn(1, 3, *size)
        grids = encoder.features(image, CT)

        found = encoder(image, CT)

        own = [*grids[:3], encoder.neck(grids[3])]
        for whole, part in zip([*found.pyramid, found.image_embedding], own, strict=True):
            height, width = part.shape[-2:]
            assert torch.equal(whole[..., :height, :width], part)
            assert not whole[..., height:, :].any()
            assert not whole[..., width:].any()

    @torch.no_grad()
    def test_batch_equals_one_by_one_and_modalities_differ(self, encoder: TiCImageEncoder) -> None:
        images, place = torch.randn(3, 3, 45, 70), torch.tensor([0, 1, 0])

        together = encoder(images, route(0, place, 2)).image_embedding

        for at in range(3):
            alone = encoder(images[at : at + 1], route(int(place[at]), None, 2)).image_embedding
            torch.testing.assert_close(together[at : at + 1], alone, rtol=1e-4, atol=1e-5)
        other = encoder(images[:1], route(1, None, 2)).image_embedding
        assert not torch.allclose(together[:1], other, atol=1e-3)


class TestTranslation:
    @torch.no_grad()
    def test_the_first_stages_move_by_one_stride(self) -> None:
        encoder = make_encoder(shifting=False, pooling=False)
        image = torch.randn(1, 3, 192, 208)

        grids = encoder.features(image, CT)
        moved = encoder.features(torch.roll(image, (8, 16), dims=(2, 3)), CT)

        for grid, of_moved, stride, border in zip(
            grids, moved, (2, 4, 8), (8, 8, 10), strict=False
        ):
            down, right = 8 // stride, 16 // stride
            inner = grid[..., border : -border - down, border : -border - right]
            expected = of_moved[..., border + down : -border, border + right : -border]
            torch.testing.assert_close(inner, expected, rtol=1e-4, atol=1e-5)
            assert inner.numel() > 0

    @pytest.mark.slow
    @torch.no_grad()
    def test_the_whole_encoder_moves_by_16_pixels_away_from_borders(self) -> None:
        encoder = make_encoder(shifting=False, pooling=False)
        image = torch.randn(1, 3, 1088, 1120)

        grid = encoder(image, CT).image_embedding
        moved = encoder(torch.roll(image, (16, 32), dims=(2, 3)), CT).image_embedding

        reach = 32  # cells: six kernels of 7 and seven of 3 at stride 16, and what lies below
        inner = grid[..., reach : -reach - 1, reach : -reach - 2]
        expected = moved[..., reach + 1 : -reach, reach + 2 : -reach]
        assert inner.shape[-2:] == (3, 4)
        torch.testing.assert_close(inner, expected, rtol=1e-4, atol=1e-5)


class TestCyclicShift:
    def test_half_the_heads_look_all_four_ways(self) -> None:
        assert cyclic_shift(8, 16) == [(0, 0)] * 4 + [(-16, 0), (0, -16), (16, 0), (0, 16)]
        assert cyclic_shift(4, 0) == [(0, 0)] * 4

    def test_fewer_heads_go_on_in_the_next_block(self) -> None:
        assert cyclic_shift(4, 8, 0) == [(0, 0), (0, 0), (-8, 0), (0, -8)]
        assert cyclic_shift(4, 8, 1) == [(0, 0), (0, 0), (8, 0), (0, 8)]
        assert cyclic_shift(2, 8, 3) == [(0, 0), (0, 8)]


class TestInterPooling:
    @torch.no_grad()
    def test_sees_as_far_as_its_pooled_kernel(self) -> None:
        pooling = InterPooling(8, 2, cells=4, kernel_size=3)
        features = torch.randn(1, 8, 23, 26)
        poked = features.clone()
        poked[..., 9, 10] += 1.0

        changed = (pooling(poked) != pooling(features)).any(1)[0]

        rows, columns = (torch.nonzero(changed.any(axis))[:, 0] for axis in (1, 0))
        assert (rows.min(), rows.max()) == (4, 15)  # pooled cells 1 to 3 of 4 rows each
        assert (columns.min(), columns.max()) == (4, 15)

    @torch.no_grad()
    def test_cells_at_the_edge_are_the_mean_of_what_there_is(self) -> None:
        pooling = InterPooling(8, 2, cells=4)
        features = torch.randn(1, 8, 1, 1).expand(1, 8, 6, 9)

        update = pooling(features)

        torch.testing.assert_close(update, update[..., :1, :1].expand_as(update))


class TestEncoder:
    def test_weighs_what_tiny_vit_does(self) -> None:
        counts = []
        for kind in (TiCImageEncoder, TinyViTImageEncoder):
            made = kind({"ct": 6}, expert_ratio=0.5, tied_token=False)
            counts.append(sum(parameter.numel() for parameter in made.parameters()))

        assert counts[0] == pytest.approx(counts[1], rel=0.05)

    def test_every_parameter_of_a_modality_learns_and_no_other_s_does(self) -> None:
        encoder = make_encoder().train()

        encoder(torch.randn(2, 3, 40, 72), CT).image_embedding.square().sum().backward()

        for name, parameter in encoder.named_parameters():
            learns = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            assert learns == (".controllers.mri." not in name), name

    def test_scripts(self, encoder: TiCImageEncoder) -> None:
        image = torch.randn(1, 3, 45, 70)

        scripted = torch.jit.script(encoder)(image, CT)

        torch.testing.assert_close(
            scripted.image_embedding, encoder(image, CT).image_embedding, rtol=1e-4, atol=1e-5
        )


class TestInANetwork:
    @pytest.mark.parametrize("encoders", [("tic", "tiny_vit"), ("tiny_vit", "tic")])
    def test_weights_of_the_other_encoder_are_refused_in_a_line(
        self, encoders: tuple[str, str]
    ) -> None:
        network, other = (
            build_product({"ct": 6}, {"ct": ["liver"]}, image_encoder=encoder)
            for encoder in encoders
        )

        for load in (load_into, load_grown):
            with pytest.raises(CheckpointMismatchError, match="image encoder") as caught:
                load(network, other.state_dict(), source="a.pt")
            assert len(str(caught.value)) < 400

    def test_other_modalities_are_no_other_encoder(self) -> None:
        network, other = (
            build_product({n: i for i, n in enumerate(names)}, {n: ["a"] for n in names})
            for names in (("ct", "mri"), ("oct", "b_scan"))
        )

        with pytest.raises(CheckpointMismatchError, match=r"got .* missing: .*controllers"):
            load_into(network, other.state_dict())


class TestClassifier:
    @pytest.mark.slow
    def test_learns_upright_from_lying_bars_at_one_size_and_tells_them_at_another(self) -> None:
        torch.manual_seed(0)
        classifier = TiCClassifier(2)
        optimizer = torch.optim.AdamW(classifier.parameters(), lr=1e-3)
        for _ in range(40):
            images, classes = bars(8, (32, 32))
            loss = F.cross_entropy(classifier(images), classes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        images, classes = bars(16, (45, 37))
        with torch.no_grad():
            told = classifier.eval()(images).argmax(1)

        assert (told == classes).float().mean() > 0.8


def bars(count: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return noisy images of upright (0) and lying bars (1), ``(B, 3, H, W)``, and which."""
    classes = torch.arange(count) % 2
    images = 0.3 * torch.randn(count, 3, *size)
    for image, lying in zip(images, classes, strict=True):
        at = int(torch.randint(4, min(size) - 8, ()))
        (image[:, at : at + 4] if lying else image[:, :, at : at + 4]).add_(2.0)
    return images, classes
