from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from esp_medsam.networks import ESPMedSAM
from esp_medsam.networks.prompt_generator import SelfPatchPromptGenerator


TARGETS = {"ct": ["liver", "kidney"], "mri": ["glioma"]}


@pytest.fixture
def generator() -> SelfPatchPromptGenerator:
    return SelfPatchPromptGenerator(TARGETS, embed_dim=8, hidden_dim=4)


class TestPatchLogits:
    def test_each_row_is_read_by_its_own_head(self, generator: SelfPatchPromptGenerator) -> None:
        embedding = torch.randn(2, 8, 4, 6)

        logits = generator.patch_logits(embedding, torch.tensor([[0, 2], [1, 1]]))

        assert logits.shape == (2, 2, 2, 3)
        features = generator.patch_features(embedding)
        glioma = generator.heads["mri"]["glioma"]
        expected = torch.einsum("c,chw->hw", glioma.weight, features[0]) + glioma.bias
        torch.testing.assert_close(logits[0, 1], expected)
        assert torch.equal(logits[1, 0], logits[1, 1])
        assert not torch.allclose(logits[0, 0], logits[0, 1])

    def test_one_map_for_all_where_shared(self) -> None:
        generator = SelfPatchPromptGenerator(None, embed_dim=8, hidden_dim=4)

        logits = generator.patch_logits(torch.randn(1, 8, 4, 4), torch.tensor([[0, 5]]))

        assert torch.equal(logits[:, 0], logits[:, 1])


class TestPatchPrompt:
    def test_is_binary_from_the_threshold_on(self, generator: SelfPatchPromptGenerator) -> None:
        logits = torch.tensor([[[[-1.0, -1e-3], [0.0, 2.0]]]])

        assert generator.patch_prompt(logits).tolist() == [[[[0, 0], [1, 1]]]]

    def test_is_cut_from_the_graph(self, generator: SelfPatchPromptGenerator) -> None:
        logits = torch.randn(1, 1, 2, 2, requires_grad=True)

        assert not generator.patch_prompt(logits).requires_grad


class TestForward:
    def test_embeds_two_vectors_alone(self, generator: SelfPatchPromptGenerator) -> None:
        prompt = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])

        embedded = generator(prompt)

        assert embedded.shape == (1, 8, 4, 4)
        background, foreground = embedded[0, :, 0, 0], embedded[0, :, 0, 2]
        assert not torch.allclose(background, foreground)
        torch.testing.assert_close(embedded[0, :, 1, 1], background)
        torch.testing.assert_close(embedded[0, :, 2, 1], foreground)


class TestConstruction:
    @pytest.mark.parametrize("threshold", [0.0, 1.0, -0.5])
    def test_refuses_a_threshold_outside_0_to_1(self, threshold: float) -> None:
        with pytest.raises(ValueError, match=rf"threshold must lie in \(0, 1\); got {threshold}"):
            SelfPatchPromptGenerator(TARGETS, threshold=threshold)


class TestPrompts:
    def test_refuses_other_prompts(self) -> None:
        with pytest.raises(ValueError, match=r"hard, straight_through, soft; got 'fuzzy'"):
            SelfPatchPromptGenerator(TARGETS, prompt="fuzzy")  # type: ignore[arg-type]

    def test_straight_through_is_hard_but_for_its_gradient(self) -> None:
        generator = SelfPatchPromptGenerator(TARGETS, prompt="straight_through")
        hard = SelfPatchPromptGenerator(TARGETS)
        logits = (4 * torch.randn(2, 3, 5, 5)).requires_grad_()

        prompt = generator.patch_prompt(logits)
        prompt.sum().backward()

        assert torch.equal(prompt, hard.patch_prompt(logits))
        probability = logits.detach().sigmoid()
        torch.testing.assert_close(logits.grad, probability * (1 - probability))

    def test_soft_weighs_the_two_embeddings_by_the_probability(self) -> None:
        generator = SelfPatchPromptGenerator(TARGETS, embed_dim=8, prompt="soft")
        hard = SelfPatchPromptGenerator(TARGETS, embed_dim=8)
        hard.load_state_dict(generator.state_dict())
        absent, present = (hard(torch.full((1, 1, 1, 1), value)) for value in (0.0, 1.0))

        prompt = generator.patch_prompt(torch.tensor([[[[0.25]]]]).logit())

        torch.testing.assert_close(generator(prompt), 0.25 * present + 0.75 * absent)

    def test_soft_embeds_a_given_prompt_as_hard_does(self) -> None:
        generator = SelfPatchPromptGenerator(TARGETS, embed_dim=8, prompt="soft")
        hard = SelfPatchPromptGenerator(TARGETS, embed_dim=8)
        hard.load_state_dict(generator.state_dict())
        given = (torch.rand(2, 1, 3, 3) > 0.5).float()

        torch.testing.assert_close(generator(given), hard(given))


class TestPromptsOfANetwork:
    @pytest.mark.parametrize(
        ("prompt", "reached"), [("hard", False), ("straight_through", True), ("soft", True)]
    )
    def test_the_mask_reaches_the_patch_heads_or_not(
        self, make_network: Callable[..., ESPMedSAM], prompt: str, reached: bool
    ) -> None:
        network = make_network(prompt=prompt)

        network(torch.randn(1, 3, 64, 64)).square().mean().backward()

        grad = network.prompt_generator.heads["ct"]["liver"].weight.grad
        assert (grad is not None and bool(grad.any())) is reached

    @pytest.mark.parametrize("prompt", ["straight_through", "soft"])
    def test_a_given_prompt_is_taken_instead(
        self, make_network: Callable[..., ESPMedSAM], prompt: str
    ) -> None:
        network, hard = make_network(prompt=prompt), make_network()
        image = torch.randn(1, 3, 64, 64)
        given = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).expand(1, 2, 2, 2)

        ours = network.predict(image, None, None, given).low_res_logits

        expected = hard.predict(image, None, None, given).low_res_logits
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("prompt", ["straight_through", "soft"])
    def test_scripts_and_exports(self, make_network: Callable[..., ESPMedSAM], prompt: str) -> None:
        network = make_network(prompt=prompt, presence=True).requires_grad_(False)
        image = torch.randn(1, 3, 64, 64)

        exported = torch.export.export(network, (image,)).module()

        for other in (torch.jit.script(network), exported):
            torch.testing.assert_close(other(image), network(image), atol=1e-5, rtol=1e-5)
