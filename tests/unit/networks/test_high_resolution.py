from __future__ import annotations

import torch

from esp_medsam.networks.high_resolution import HighResolutionPath


class TestHighResolutionPath:
    def test_gives_features_at_the_images_resolution(self) -> None:
        path = HighResolutionPath(16, (2, 4, 8), (8, 6, 4, 3)).eval()
        pyramid = [torch.randn(1, 2, 32, 48), torch.randn(1, 4, 16, 24), torch.randn(1, 8, 8, 12)]

        features = path(torch.randn(1, 3, 64, 96), torch.randn(1, 16, 4, 6), pyramid)

        assert path.out_dim == 3
        assert features.shape == (1, 3, 64, 96)

    def test_sees_image_embedding_and_every_level(self) -> None:
        path = HighResolutionPath(16, (2, 4, 8), (8, 6, 4, 3)).eval()
        pyramid = [
            torch.randn(1, channels, 32 // 2**level, 32 // 2**level, requires_grad=True)
            for level, channels in enumerate((2, 4, 8))
        ]
        image = torch.randn(1, 3, 64, 64, requires_grad=True)
        embedding = torch.randn(1, 16, 4, 4, requires_grad=True)

        path(image, embedding, pyramid).square().sum().backward()

        for seen in (image, embedding, *pyramid):
            assert seen.grad is not None
            assert seen.grad.any()
