"""TiC's image encoder: attention inside convolutions, for images of any size.

The paper's stage table is not public. These stages are ours, chosen so that the encoder is as large
as TinyViT:

======  ======  ========  =====  ======  ====================================================
stride  blocks  channels  heads  kernel  notes
======  ======  ========  =====  ======  ====================================================
2       -       32        -      -       convolution 3 x 3
4       2       64        4      5       kernels of half the heads moved by 8 cells: up and left
                                         in the first block, down and right in the second
8       2       128       4      5       the same
16      6       224       8      7       moved all four ways by 8 or 16 cells in every second block;
                                         inter-pooling by 4 cells in the others
======  ======  ========  =====  ======  ====================================================

Nothing is padded and no parameter depends on the number of pixels: each grid has just enough cells
to cover the image, and positions outside take no part.

Reference:
    Zhang et al., "Vision Transformer in Convolution" (TiC), arXiv:2310.04134; controllers as in Xu
    et al., "ESP-MedSAM", arXiv:2407.14153.
"""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.networks.image_encoder import EncoderFeatures
from esp_medsam.networks.layers import ConvNorm, FeedForward, LayerNorm2d, covering, embedding_neck
from esp_medsam.networks.modality_controller import ControllerBank, Route, route
from esp_medsam.networks.msa_conv import MSAConv
from esp_medsam.networks.tiny_vit import PatchMerging


DIRECTIONS = ((-1, 0), (0, -1), (1, 0), (0, 1))
"""Rows and columns of up, left, down and right."""


def cyclic_shift(heads: int, cells: int, block: int = 0) -> list[tuple[int, int]]:
    """Return the offset of each head's kernel: half stay, the others move in turn each way.

    This is the paper's multi-directional cyclic shift: a head whose keys and values are shifted by
    some cells sees the values at that distance from its query. Values that would wrap around the
    edge are outside the image and masked. The number of cells does not depend on the image size.

    Args:
        heads: Attention heads.
        cells: Cells by which the others are moved; 0 moves none.
        block: Number of the block; its heads continue the directions of the previous block.
    """
    moved = heads // 2
    turns = range(block * moved, (block + 1) * moved)
    ways = [DIRECTIONS[turn % len(DIRECTIONS)] for turn in turns]
    return [(0, 0)] * (heads - moved) + [(down * cells, right * cells) for down, right in ways]


class InterPooling(nn.Module):
    """Attention on a coarser grid, upsampled again: a kernel sees ``cells`` times as far.

    Args:
        dim: Channels.
        heads: Attention heads.
        cells: Cells of the grid, in rows and in columns, that are pooled into one. Incomplete
            squares at the bottom and right are the mean of their existing cells.
        kernel_size: Rows and columns of the kernel, in pooled cells.
    """

    def __init__(self, dim: int, heads: int, cells: int, kernel_size: int = 5) -> None:
        super().__init__()
        self.cells = cells
        self.norm = LayerNorm2d(dim)
        self.attention = MSAConv(dim, heads, kernel_size, position_bias=True)
        self.proj = nn.Conv2d(dim, dim, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the update of ``features``, ``(B, C, H, W)``, without the residual."""
        H, W = features.shape[-2], features.shape[-1]
        pooled = F.avg_pool2d(features, self.cells, ceil_mode=True, count_include_pad=False)
        pooled = self.proj(self.attention(self.norm(pooled)))
        raised = F.interpolate(pooled, scale_factor=float(self.cells), mode="nearest")
        update: Tensor = raised[..., :H, :W]
        return update


class TiCBlock(nn.Module):
    """MSA-Conv with a modality's token, a depthwise convolution, feed-forward part and expert.

    Args:
        dim: Channels.
        heads: Attention heads.
        kernel_size: Rows and columns of the kernel.
        offsets: Offset of the kernel of each head.
        pooling: Cells that inter-pooling pools into one; 0 for no inter-pooling.
        modalities: Names of the modalities that own a controller; empty for no controllers.
        expert_ratio: Hidden width of an expert over ``dim``.
        tied_token: See :class:`~esp_medsam.networks.modality_controller.ModalityController`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        kernel_size: int,
        *,
        offsets: Sequence[tuple[int, int]],
        pooling: int,
        modalities: Sequence[str],
        expert_ratio: float,
        tied_token: bool,
    ) -> None:
        super().__init__()
        self.norm = LayerNorm2d(dim)
        self.attention = MSAConv(dim, heads, kernel_size, position_bias=True, offsets=offsets)
        self.proj = nn.Conv2d(dim, dim, kernel_size=1)
        self.inter_pooling = InterPooling(dim, heads, pooling) if pooling else None
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = FeedForward(dim, 4 * dim)
        self.bank = None
        if modalities:
            self.bank = ControllerBank(
                modalities, dim, heads, round(expert_ratio * dim), tied_token=tied_token
            )

    def forward(self, features: Tensor, batch_route: Route) -> Tensor:
        """Return the block's output; ``features`` and it are ``(B, C, H, W)``."""
        token = None if self.bank is None else self.bank.window_token(batch_route)
        features = features + self.proj(self.attention(self.norm(features), token))
        if self.inter_pooling is not None:
            features = features + self.inter_pooling(features)
        features = self.local_conv(features)
        B, C, H, W = features.shape
        tokens = features.permute(0, 2, 3, 1).reshape(B, H * W, C)
        learned = self.mlp(tokens)
        if self.bank is not None:
            learned = learned + self.bank(tokens, batch_route)
        updated: Tensor = (tokens + learned).view(B, H, W, C).permute(0, 3, 1, 2)
        return updated


class TiCStage(nn.Module):
    """Blocks of one width."""

    def __init__(self, blocks: Sequence[TiCBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, features: Tensor, batch_route: Route) -> Tensor:
        """Return the stage's output; ``features`` and it are ``(B, C, H, W)``."""
        for block in self.blocks:
            features = block(features, batch_route)
        return features


class TiCImageEncoder(nn.Module):
    """TiC's hierarchy with a controller per modality in every block.

    It takes images of any height and width.

    Args:
        modalities: Names of the modalities that own a controller, in order.
        embed_dim: Channels of the image embedding.
        expert_ratio: Hidden width of an expert over its block's width.
        tied_token: Whether a controller's key token is also its value token.
        shifting: Whether kernels are moved (:func:`cyclic_shift`).
        pooling: Whether to use :class:`InterPooling`.

    Attributes:
        pyramid_channels: Channels of the features at strides 2, 4 and 8.
        dim: Channels at stride 16, before the neck.
    """

    def __init__(
        self,
        modalities: Mapping[str, int],
        *,
        embed_dim: int = 256,
        expert_ratio: float = 0.5,
        tied_token: bool = False,
        shifting: bool = True,
        pooling: bool = True,
    ) -> None:
        super().__init__()

        def stage(dim: int, heads: int, kernel: int, plan: Sequence[tuple[int, int]]) -> TiCStage:
            return TiCStage(
                [
                    TiCBlock(
                        dim,
                        heads,
                        kernel,
                        offsets=cyclic_shift(heads, shift if shifting else 0, block),
                        pooling=cells if pooling else 0,
                        modalities=list(modalities),
                        expert_ratio=expert_ratio,
                        tied_token=tied_token,
                    )
                    for block, (shift, cells) in enumerate(plan)
                ]
            )

        self.pyramid_channels = (32, 64, 128)
        self.dim = 224
        self.stem1 = ConvNorm(3, 32, 3, stride=2)
        self.merges = nn.ModuleList(
            [
                PatchMerging(32, 64, stride=2),
                PatchMerging(64, 128, stride=2),
                PatchMerging(128, self.dim, stride=2),
            ]
        )
        # For each block: cells by which kernels are moved, and cells pooled into one.
        self.stages = nn.ModuleList(
            [
                stage(64, 4, 5, [(8, 0), (8, 0)]),
                stage(128, 4, 5, [(8, 0), (8, 0)]),
                stage(self.dim, 8, 7, [(0, 4), (8, 0), (0, 4), (16, 0), (0, 4), (8, 0)]),
            ]
        )
        self.neck = embedding_neck(self.dim, embed_dim)

    def features(self, image: Tensor, batch_route: Route) -> list[Tensor]:
        """Return the features at strides 2, 4, 8 and 16, each grid just covering the image."""
        features = F.gelu(self.stem1(image))
        grids = [features]
        for merge, stage in zip(self.merges, self.stages):  # noqa: B905  scripts know no strict
            features = stage(merge(features), batch_route)
            grids.append(features)
        return grids

    def forward(self, image: Tensor, batch_route: Route) -> EncoderFeatures:
        """Encode each image with its modality's controllers.

        Args:
            image: ``(B, 3, H, W)``, normalized; any H and W.
            batch_route: The controller that each image takes.

        Returns:
            The image embedding and the early features at strides 2, 4 and 8, on grids of an image
            whose sides are the next multiples of 32, with 0 outside the given image.
        """
        H, W = image.shape[-2], image.shape[-1]
        stride2, stride4, stride8, stride16 = self.features(image, batch_route)
        embedding = covering(self.neck(stride16), H, W, 16)
        pyramid = [
            covering(stride2, H, W, 2),
            covering(stride4, H, W, 4),
            covering(stride8, H, W, 8),
        ]
        return EncoderFeatures(embedding, pyramid)


class TiCClassifier(nn.Module):
    """The paper's classifier: the encoder without controllers, mean over cells, a linear layer.

    Its training on ImageNet is not repeated here, and no accuracy is claimed.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.encoder = TiCImageEncoder({})
        self.norm = nn.LayerNorm(self.encoder.dim)
        self.head = nn.Linear(self.encoder.dim, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return class logits, ``(B, classes)``, of images, ``(B, 3, H, W)``, with any H and W."""
        last = self.encoder.features(image, route(0, None, 0))[3]
        logits: Tensor = self.head(self.norm(last.mean((2, 3))))
        return logits
