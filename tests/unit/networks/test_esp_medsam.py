from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from esp_medsam.networks import ESPMedSAM, build_paper, build_product
from esp_medsam.networks.builders import build_released_design
from esp_medsam.networks.esp_medsam import ABSENT_LOGIT


CT, FUNDUS = torch.tensor([6]), torch.tensor([3])
MakeNetwork = Callable[..., ESPMedSAM]


@torch.no_grad()
def logits_of(network: ESPMedSAM, image: Tensor, modality: Tensor | None) -> Tensor:
    logits: Tensor = network(image, modality)
    return logits


@pytest.fixture(scope="module")
def any_encoder(make_network: MakeNetwork) -> Callable[[str], ESPMedSAM]:
    """Return a function that gives a network with one encoder or the other, each made once."""
    return cache(lambda name: make_network(image_encoder=name))


class TestForward:
    @pytest.mark.parametrize("size", [(32, 32), (64, 96), (96, 32), (224, 64)])
    def test_takes_any_multiples_of_32(
        self, shared_network: ESPMedSAM, size: tuple[int, int]
    ) -> None:
        logits = logits_of(shared_network, torch.randn(1, 3, *size), None)

        assert logits.shape == (1, 2, *size)
        assert logits.isfinite().all()

    @pytest.mark.parametrize("size", [(33, 64), (1, 1), (45, 70), (16, 130)])
    @pytest.mark.parametrize("image_encoder", ["tiny_vit", "tic"])
    def test_takes_any_other_size_too(
        self, any_encoder: Callable[[str], ESPMedSAM], image_encoder: str, size: tuple[int, int]
    ) -> None:
        network, image = any_encoder(image_encoder), torch.randn(2, 3, *size)
        with torch.no_grad():
            prediction = network.predict(image)

        h, w = (-(-side // 32) * 2 for side in size)
        assert prediction.low_res_logits.shape == (2, 2, *size)
        assert prediction.image_embedding.shape == (2, 256, h, w)
        assert prediction.patch_logits.shape == (2, 2, h // 2, w // 2)
        assert logits_of(network, image, None).shape == (2, 2, *size)

    @pytest.mark.parametrize("build", [build_product, build_released_design])
    def test_behind_its_end_an_image_goes_on_as_zero(
        self, make_network: MakeNetwork, build: Callable[..., ESPMedSAM]
    ) -> None:
        """Masks of an image that is completed by hand are the same, and lie where they lay."""
        network, image = make_network(build), torch.randn(1, 3, 45, 70)
        by_hand = F.pad(image, (0, 26, 0, 19))

        logits = logits_of(network, image, None)

        expected = logits_of(network, by_hand, None)[..., :45, :70]
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)

    def test_of_tic_not_even_zeros_take_part_in_the_encoder(
        self, any_encoder: Callable[[str], ESPMedSAM]
    ) -> None:
        network, image = any_encoder("tic"), torch.randn(1, 3, 45, 70)
        with torch.no_grad():
            embedding = network.encode(image, None).image_embedding
            by_hand = network.encode(F.pad(image, (0, 26, 0, 19)), None).image_embedding

        assert not embedding[..., 3:, :].any()
        assert not embedding[..., 5:].any()
        assert not torch.allclose(embedding[..., :3, :5], by_hand[..., :3, :5], atol=1e-3)

    def test_refuses_fewer_modalities_than_images(
        self, shared_network: ESPMedSAM, image: Tensor
    ) -> None:
        with pytest.raises(ValueError, match="one index per image; got 1 for 2"):
            shared_network(image, CT)

    def test_batch_equals_one_by_one(self, shared_network: ESPMedSAM) -> None:
        images = torch.randn(3, 3, 64, 64)

        together = logits_of(shared_network, images, None)

        alone = torch.cat([logits_of(shared_network, image[None], None) for image in images])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("modalities", [[6, 3, 6], [3, 6, 3], [3, 3, 6]])
    def test_mixed_batch_equals_separate_batches(
        self, shared_network: ESPMedSAM, modalities: list[int]
    ) -> None:
        images, modality = torch.randn(3, 3, 64, 64), torch.tensor(modalities)

        mixed = logits_of(shared_network, images, modality)

        for index, count in ((6, 2), (3, 1)):
            rows = modality == index
            own = logits_of(shared_network, images[rows], modality[rows])
            torch.testing.assert_close(mixed[rows][:, :count], own, atol=1e-5, rtol=0)

    def test_none_means_the_default_modality(self, network: ESPMedSAM, image: Tensor) -> None:
        by_default = logits_of(network, image, None)
        network.default_modality = "fundus"
        by_other_default = logits_of(network, image, None)

        given = logits_of(network, image, torch.tensor([6, 6]))
        torch.testing.assert_close(by_default, given, atol=1e-5, rtol=0)
        other_given = logits_of(network, image, torch.tensor([3, 3]))
        torch.testing.assert_close(by_other_default, other_given, atol=1e-5, rtol=0)

    def test_modalities_differ(self, shared_network: ESPMedSAM, image: Tensor) -> None:
        ct = logits_of(shared_network, image, torch.tensor([6, 6]))
        fundus = logits_of(shared_network, image, torch.tensor([3, 3]))

        assert ct.shape == (2, 2, 64, 96)
        assert fundus.shape == (2, 1, 64, 96)
        assert not torch.allclose(ct[:, :1], fundus)

    @pytest.mark.parametrize("index", [0, 5, 7])
    def test_a_modality_that_is_not_held_raises(
        self, shared_network: ESPMedSAM, image: Tensor, index: int
    ) -> None:
        with pytest.raises((IndexError, RuntimeError)):
            shared_network(image, torch.tensor([index, index]))


class TestPredict:
    def test_absent_rows_hold_the_absent_logit(
        self, shared_network: ESPMedSAM, image: Tensor
    ) -> None:
        prediction = shared_network.predict(image, torch.tensor([6, 3]))

        assert ABSENT_LOGIT == -1e4
        assert (prediction.low_res_logits[1, 1] == ABSENT_LOGIT).all()
        assert (prediction.patch_logits[1, 1] == ABSENT_LOGIT).all()
        assert (prediction.low_res_logits[0] > ABSENT_LOGIT / 2).all()
        assert (prediction.low_res_logits[1, 0] > ABSENT_LOGIT / 2).all()

    def test_shapes_with_the_high_resolution_path(
        self, shared_network: ESPMedSAM, image: Tensor
    ) -> None:
        encoded = shared_network.encode(image, None)
        prediction = shared_network.decode(encoded, None, None, None)

        assert [tuple(level.shape[1:]) for level in encoded.pyramid] == [
            (32, 32, 48),
            (64, 16, 24),
            (128, 8, 12),
        ]
        assert encoded.full_res.shape == (2, 16, 64, 96)
        assert prediction.low_res_logits.shape == (2, 2, 64, 96)
        assert prediction.patch_logits.shape == (2, 2, 2, 3)
        assert prediction.image_embedding.shape == (2, 256, 4, 6)

    def test_shapes_without_the_high_resolution_path(
        self, make_network: MakeNetwork, image: Tensor
    ) -> None:
        network = make_network(build_released_design)

        encoded = network.encode(image, None)
        prediction = network.decode(encoded, None, None, None)

        assert encoded.full_res.shape == (2, 0, 64, 96)
        assert prediction.low_res_logits.shape == (2, 2, 16, 24)
        assert network(image).shape == (2, 2, 64, 96)

    @pytest.mark.parametrize("targets", [[0], [1], [1, 0], [0, 1]])
    @pytest.mark.parametrize("modality", [None, torch.tensor([6, 6])])
    def test_chosen_targets_keep_their_logits(
        self,
        shared_network: ESPMedSAM,
        image: Tensor,
        targets: list[int],
        modality: Tensor | None,
    ) -> None:
        every = shared_network.predict(image, modality)
        chosen = shared_network.predict(image, modality, targets)

        torch.testing.assert_close(
            chosen.low_res_logits, every.low_res_logits[:, targets], atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            chosen.patch_logits, every.patch_logits[:, targets], atol=1e-5, rtol=0
        )

    @pytest.mark.parametrize("drawn", [[[1, 0], [0, 1]], [[1, 1], [0, 0]], [[0, 0], [0, 0]]])
    def test_draws_no_masks_but_those_asked_for(
        self, shared_network: ESPMedSAM, image: Tensor, drawn: list[list[int]]
    ) -> None:
        modality, asked = torch.tensor([6, 3]), torch.tensor(drawn) == 1
        every = shared_network.predict(image, modality)

        some = shared_network.predict_drawn(image, modality, F.pad(asked, (0, 3), value=True))

        torch.testing.assert_close(
            some.low_res_logits[asked], every.low_res_logits[asked], atol=1e-5, rtol=0
        )
        assert (some.low_res_logits[~asked] < -1000).all()
        torch.testing.assert_close(some.patch_logits, every.patch_logits, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("targets", [[], [2], [-1], [0, 5]])
    def test_refuses_targets_that_do_not_exist(
        self, shared_network: ESPMedSAM, image: Tensor, targets: list[int]
    ) -> None:
        with pytest.raises(
            ValueError, match=r"targets must name at least one index in 0\.\.\d+; got \["
        ):
            shared_network.predict(image, None, targets)

    def test_refuses_chosen_targets_for_a_mixed_batch(
        self, shared_network: ESPMedSAM, image: Tensor
    ) -> None:
        with pytest.raises(ValueError, match="left out for batches of several modalities"):
            shared_network.predict(image, torch.tensor([6, 3]), [1])


class TestGradients:
    def test_mask_loss_does_not_reach_the_patch_heads(
        self, network: ESPMedSAM, image: Tensor
    ) -> None:
        network.predict(image).low_res_logits.square().mean().backward()

        assert not reached(network, "prompt_generator.heads")
        assert not reached(network, "prompt_generator.patch_features")
        assert reached(network, "prompt_generator.prompt_embed")
        assert reached(network, "image_encoder.stem1")
        assert reached(network, "modality_query")
        assert reached(network, "high_resolution")

    def test_patch_loss_reaches_patch_heads_and_encoder_alone(
        self, network: ESPMedSAM, image: Tensor
    ) -> None:
        network.predict(image).patch_logits.square().mean().backward()

        assert reached(network, "prompt_generator.heads.ct.liver")
        assert reached(network, "prompt_generator.patch_features")
        assert reached(network, "image_encoder.stem1")
        assert not reached(network, "prompt_generator.heads.fundus")
        assert not reached(network, "prompt_generator.prompt_embed")
        assert not reached(network, "mask_decoder")

    def test_a_modality_trains_its_own_controllers_alone(
        self, network: ESPMedSAM, image: Tensor
    ) -> None:
        network.predict(image, torch.tensor([3, 3])).low_res_logits.square().mean().backward()

        block = "image_encoder.stages.1.blocks.0.bank.controllers"
        assert reached(network, f"{block}.fundus.key")
        assert reached(network, f"{block}.fundus.expert")
        assert not reached(network, f"{block}.ct")


def reached(network: ESPMedSAM, prefix: str) -> bool:
    """Whether any parameter below ``prefix`` has a gradient that is not zero."""
    gradients = [p.grad for name, p in network.named_parameters() if name.startswith(prefix)]
    assert gradients, f"no parameter is called {prefix}"
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


class TestIsolation:
    def test_a_further_modality_changes_no_bit_of_the_others(
        self, network: ESPMedSAM, make_network: MakeNetwork, image: Tensor
    ) -> None:
        larger = self.with_ultrasound(network, make_network)

        for modality in (None, torch.tensor([3, 3]), torch.tensor([6, 3])):
            expected = logits_of(network, image, modality)
            assert torch.equal(logits_of(larger, image, modality), expected)

    def test_training_a_further_modality_changes_no_bit_of_the_others(
        self, network: ESPMedSAM, make_network: MakeNetwork, image: Tensor
    ) -> None:
        larger = self.with_ultrasound(network, make_network)
        own = [
            parameter.requires_grad_("ultrasound" in name.split("."))
            for name, parameter in larger.named_parameters()
        ]
        optimizer = torch.optim.SGD([p for p in own if p.requires_grad], lr=0.1)
        before = logits_of(larger, image, torch.tensor([2, 2]))
        prediction = larger.predict(image, torch.tensor([2, 2]))
        loss = prediction.low_res_logits.square().mean() + prediction.patch_logits.square().mean()
        loss.backward()
        optimizer.step()

        assert not torch.equal(logits_of(larger, image, torch.tensor([2, 2])), before)
        for modality in (None, torch.tensor([3, 3]), torch.tensor([6, 3])):
            expected = logits_of(network, image, modality)
            assert torch.equal(logits_of(larger, image, modality), expected)

    def test_a_further_target_leaves_the_others_logits(
        self, network: ESPMedSAM, make_network: MakeNetwork, image: Tensor
    ) -> None:
        targets = {"ct": ["pancreas", "liver", "kidney"], "fundus": ["vessels"]}
        larger = make_network(targets=targets)
        larger.load_state_dict(larger.state_dict() | network.state_dict())

        logits = logits_of(larger, image, None)

        expected = logits_of(network, image, None)
        torch.testing.assert_close(logits[:, 1:], expected, atol=1e-5, rtol=0)

    @staticmethod
    def with_ultrasound(network: ESPMedSAM, make_network: MakeNetwork) -> ESPMedSAM:
        larger = make_network(
            modalities={"ultrasound": 2, **network.modalities},
            targets={"ultrasound": ["breast_lesion"], **network.targets},
        )
        larger.load_state_dict(larger.state_dict() | network.state_dict())
        return larger


class TestDesigns:
    @pytest.mark.parametrize("build", [build_paper, build_released_design])
    def test_joint_decoding_in_mixed_batches_equals_separate_ones(
        self, build: Callable[..., ESPMedSAM], make_network: MakeNetwork, image: Tensor
    ) -> None:
        network = make_network(build)

        mixed = logits_of(network, image, torch.tensor([6, 3]))

        ct, fundus = logits_of(network, image[:1], CT), logits_of(network, image[1:], FUNDUS)
        torch.testing.assert_close(mixed[:1], ct, atol=1e-5, rtol=0)
        torch.testing.assert_close(mixed[1:, :1], fundus, atol=1e-5, rtol=0)

    def test_several_tokens_per_target_keep_batches_and_choices(
        self, make_network: MakeNetwork, image: Tensor
    ) -> None:
        network = make_network(tokens_per_target=3)

        every = network.predict(image, torch.tensor([6, 6]))
        chosen = network.predict(image[:1], CT, [1])

        assert network.modality_query.targets["ct"]["liver"].tokens.shape == (3, 256)
        torch.testing.assert_close(
            chosen.low_res_logits[0, 0], every.low_res_logits[0, 1], atol=1e-5, rtol=0
        )

    def test_released_masks_are_resized_to_the_input(
        self, make_network: MakeNetwork, image: Tensor
    ) -> None:
        network = make_network(build_released_design)

        low_res = network.predict(image).low_res_logits

        expected = F.interpolate(low_res, size=(64, 96), mode="bilinear", align_corners=False)
        torch.testing.assert_close(network(image), expected)


class TestConstruction:
    def test_refuses_a_default_that_is_not_held(self, make_network: MakeNetwork) -> None:
        with pytest.raises(ValueError, match="default_modality must be one of ct, fundus; got 'mr"):
            make_network(default_modality="mri")

    def test_refuses_a_modality_without_targets(self, make_network: MakeNetwork) -> None:
        with pytest.raises(ValueError, match="at least one target of fundus"):
            make_network(targets={"ct": ["liver"]})

    def test_says_what_it_holds(self, shared_network: ESPMedSAM) -> None:
        assert shared_network.modalities == {"ct": 6, "fundus": 3}
        assert shared_network.targets == {"ct": ["liver", "kidney"], "fundus": ["vessels"]}
        assert shared_network.default_modality == "ct"

    def test_routing_tables_are_not_part_of_the_weights(self, shared_network: ESPMedSAM) -> None:
        names = list(shared_network.state_dict())

        assert not [name for name in names if "table" in name or "bias_index" in name]
