from __future__ import annotations

import pytest
import torch

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
