from __future__ import annotations

from esp_medsam.networks.unused_sam import UnusedPromptEncoder


class TestUnusedPromptEncoder:
    def test_holds_as_many_parameters_as_sams(self) -> None:
        assert sum(p.numel() for p in UnusedPromptEncoder().parameters()) == 6_220
