"""Semi-parameter-sharing image encoder: one TinyViT for all modalities, one controller each."""

from collections.abc import Mapping
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.networks.layers import ConvNorm, covering, embedding_neck
from esp_medsam.networks.modality_controller import Route
from esp_medsam.networks.tiny_vit import MBConv, PatchMerging, TinyViTBlock, TransformerStage


class EncoderFeatures(NamedTuple):
    """Output of an image encoder.

    Attributes:
        image_embedding: ``(B, 256, h, w)``, two cells per 32 rows and columns, rounded up.
        pyramid: Features at strides 2, 4 and 8; empty if the encoder has none.
    """

    image_embedding: Tensor
    pyramid: list[Tensor]


class TinyViTImageEncoder(nn.Module):
    """MobileSAM's TinyViT-5M with a controller per modality in every transformer block.

    It takes images of any height and width; sides that are not multiples of 32 are padded with 0 at
    bottom and right. Windows are 7, 7, 14 and 7 at strides 4, 8, 16 and 16, so multiples of 224
    need no window padding.

    Args:
        modalities: Names of the modalities that own a controller, in order.
        embed_dim: Channels of the image embedding.
        expert_ratio: Hidden width of an expert over its block's width. The paper's and the
            released experts are as wide as the feed-forward part, 4.
        tied_token: Whether a controller's key token is also its value token (released code).
        keep_classifier: Whether to hold TinyViT's ImageNet head, which is unused but contained in
            the released checkpoints.

    Attributes:
        pyramid_channels: Channels of the features at strides 2, 4 and 8.
    """

    def __init__(
        self,
        modalities: Mapping[str, int],
        *,
        embed_dim: int = 256,
        expert_ratio: float = 4.0,
        tied_token: bool = True,
        keep_classifier: bool = False,
    ) -> None:
        super().__init__()

        def blocks(depth: int, dim: int, heads: int, window: int) -> list[TinyViTBlock]:
            return [
                TinyViTBlock(
                    dim,
                    heads,
                    window,
                    modalities=list(modalities),
                    expert_ratio=expert_ratio,
                    tied_token=tied_token,
                )
                for _ in range(depth)
            ]

        self.pyramid_channels = (32, 64, 128)
        self.stem1 = ConvNorm(3, 32, 3, stride=2)
        self.stem2 = ConvNorm(32, 64, 3, stride=2)
        self.conv_stage = nn.Sequential(MBConv(64), MBConv(64))
        self.merge = PatchMerging(64, 128, stride=2)
        self.stages = nn.ModuleList(
            [
                TransformerStage(blocks(2, 128, 4, 7), PatchMerging(128, 160, stride=2)),
                TransformerStage(blocks(6, 160, 5, 14), PatchMerging(160, 320, stride=1)),
                TransformerStage(blocks(2, 320, 10, 7), nn.Identity()),
            ]
        )
        self.neck = embedding_neck(320, embed_dim)
        if keep_classifier:
            self.classifier = nn.Sequential(nn.LayerNorm(320), nn.Linear(320, 1000))

    def forward(self, image: Tensor, batch_route: Route) -> EncoderFeatures:
        """Encode each image with its modality's controllers.

        Args:
            image: ``(B, 3, H, W)``, normalized; any H and W.
            batch_route: The controller that each image takes.

        Returns:
            The image embedding and the early features at strides 2, 4 and 8, of the padded image.
        """
        image = covering(image, image.shape[-2], image.shape[-1], 1)
        stride2 = F.gelu(self.stem1(image))
        stride4 = self.conv_stage(self.stem2(stride2))
        features = self.merge(stride4)
        before_merge: list[Tensor] = []
        for stage in self.stages:
            before, features = stage(features, batch_route)
            before_merge.append(before)
        return EncoderFeatures(self.neck(features), [stride2, stride4, before_merge[0]])
