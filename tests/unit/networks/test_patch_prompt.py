"""A patch prompt that is given, in place of the one that a network generates."""

from __future__ import annotations

import torch
from torch import Tensor

from esp_medsam.networks import ESPMedSAM


class TestPatchPrompt:
    def test_patch_prompt_replaces_the_generated_one(
        self, shared_network: ESPMedSAM, image: Tensor
    ) -> None:
        generated = shared_network.predict(image)
        own = (generated.patch_logits.sigmoid() >= 0.5).float()

        same = shared_network.predict(image, patch_prompt=own)
        opposite = shared_network.predict(image, patch_prompt=1 - own)

        assert torch.equal(same.low_res_logits, generated.low_res_logits)
        assert torch.equal(opposite.patch_logits, generated.patch_logits)
        assert not torch.allclose(opposite.low_res_logits, generated.low_res_logits)

    def test_patches_that_a_prompt_says_nothing_of_stay_as_generated(
        self, shared_network: ESPMedSAM, image: Tensor
    ) -> None:
        generated = shared_network.predict(image)
        own = (generated.patch_logits.sigmoid() >= 0.5).float()
        own[..., 0, 0] = 1 - own[..., 0, 0]
        said = torch.full_like(own, torch.nan)
        said[..., 0, 0] = own[..., 0, 0]

        silent = shared_network.predict(image, patch_prompt=torch.full_like(own, torch.nan))
        one = shared_network.predict(image, patch_prompt=said)
        whole = shared_network.predict(image, patch_prompt=own)

        assert torch.equal(silent.low_res_logits, generated.low_res_logits)
        assert torch.equal(one.low_res_logits, whole.low_res_logits)

    def test_patch_prompt_of_one_target_leaves_the_others(
        self, shared_network: ESPMedSAM, image: Tensor
    ) -> None:
        generated = shared_network.predict(image)
        prompt = (generated.patch_logits.sigmoid() >= 0.5).float()
        prompt[:, 1] = 1 - prompt[:, 1]

        changed = shared_network.predict(image, patch_prompt=prompt)

        torch.testing.assert_close(
            changed.low_res_logits[:, 0], generated.low_res_logits[:, 0], atol=1e-5, rtol=0
        )
        assert not torch.allclose(changed.low_res_logits[:, 1], generated.low_res_logits[:, 1])
