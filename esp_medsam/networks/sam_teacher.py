"""SAM's frozen image encoder, turned into a medical teacher by prompt tokens and adapters.

The encoder is passed in: this module uses the parts of segment_anything's ``ImageEncoderViT``
(``patch_embed``, ``pos_embed``, ``blocks``, ``neck``), but not the package.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.networks.image_encoder import EncoderFeatures
from esp_medsam.networks.layers import covering
from esp_medsam.networks.modality_controller import Route


_FIRST_BIAS = -4.0
"""Initial attention logit of tokens: eight take less than 0.1 % of a window of 14 x 14."""


class PromptTokens(nn.Module):
    """Keys and values that one modality adds to the attention of one block.

    Values start at 0 and the logit starts low, so that the block starts close to the plain one.

    Args:
        count: Number of tokens.
        heads: Attention heads of the block.
        head_dim: Channels of a head.
    """

    def __init__(self, count: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.key = nn.Parameter(torch.empty(heads, count, head_dim).normal_(std=0.02))
        self.value = nn.Parameter(torch.zeros(heads, count, head_dim))
        self.bias = nn.Parameter(torch.full((1,), _FIRST_BIAS))


class Adapter(nn.Module):
    """A bottleneck parallel to a block's feed-forward part; at the start it adds nothing."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.up = nn.Linear(hidden_dim, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the update of ``tokens``, ``(..., C)``, without the residual."""
        update: Tensor = self.up(self.act(self.down(tokens)))
        return update


class BlockPrompts(nn.Module):
    """The teacher's additions to one block: tokens of each modality, and one adapter for all.

    Args:
        names: Modalities, in the order of the places in a :class:`Route`.
        dim: Channels of the block.
        heads: Attention heads of the block.
        tokens: Number of tokens of a modality.
        hidden_dim: Hidden width of the adapter.
    """

    def __init__(
        self, names: Sequence[str], dim: int, heads: int, tokens: int, hidden_dim: int
    ) -> None:
        super().__init__()
        self.tokens = nn.ModuleDict(
            {name: PromptTokens(tokens, heads, dim // heads) for name in names}
        )
        self.adapter = Adapter(dim, hidden_dim)

    def of(self, batch_route: Route, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return each image's keys and values, ``(B, heads, tokens, d)``, and logits, ``(B,)``."""
        own: list[Any] = list(self.tokens.values())
        place = batch_route.place
        if place is None:
            place = torch.full((batch,), batch_route.fixed, device=own[0].key.device)
        key, value, bias = (
            torch.stack([getattr(tokens, name) for tokens in own])[place]
            for name in ("key", "value", "bias")
        )
        return key, value, bias[:, 0]


class SAMTeacherEncoder(nn.Module):
    """A frozen SAM image encoder with trainable tokens and adapters in each block.

    As in the paper's figure, tokens are concatenated to keys and values, and the adapter takes the
    output of the second LayerNorm and is added to the output of the feed-forward part. The figure
    does not state the number of tokens or the width of an adapter; the defaults are ours. With the
    adapters' last layers at 0 and the tokens' ``bias`` at minus infinity, it is the plain encoder.

    It is the ``image_encoder`` of :class:`~esp_medsam.networks.esp_medsam.ESPMedSAM` in training,
    and does not support TorchScript.

    Args:
        encoder: SAM's image encoder. Its parameters are frozen here, and it stays in evaluation
            mode.
        modalities: Names of the modalities that own tokens, in order.
        tokens: Number of tokens of a modality in each block.
        adapter_ratio: Hidden width of an adapter over the encoder's width.

    Raises:
        ValueError: If a number is invalid.

    Attributes:
        pyramid_channels: Empty, because a ViT has only one stride.
    """

    def __init__(
        self,
        encoder: nn.Module,
        modalities: Sequence[str],
        *,
        tokens: int = 8,
        adapter_ratio: float = 0.25,
    ) -> None:
        super().__init__()
        if tokens < 1 or adapter_ratio <= 0:
            msg = (
                f"tokens must be at least 1, and adapter_ratio greater than 0; got {tokens} "
                f"and {adapter_ratio}."
            )
            raise ValueError(msg)
        self.pyramid_channels: tuple[int, ...] = ()
        self.encoder = encoder.requires_grad_(False)
        blocks = list(encoder.get_submodule("blocks").children())
        self.prompts = nn.ModuleList()
        for block in blocks:
            projection = block.get_submodule("attn.proj")
            assert isinstance(projection, nn.Linear)
            dim = projection.out_features
            self.prompts.append(
                BlockPrompts(
                    modalities, dim, _heads(block), tokens, max(1, round(adapter_ratio * dim))
                )
            )
        self.train(self.training)

    def train(self, mode: bool = True) -> "SAMTeacherEncoder":
        """Set the mode of everything except the frozen encoder."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, image: Tensor, batch_route: Route) -> EncoderFeatures:
        """Encode images, each with its modality's tokens.

        Args:
            image: ``(B, 3, H, W)``, normalized; padded with 0 up to multiples of 32. If the size
                differs from the encoder's training size, positions are interpolated.
            batch_route: The modality of each image.
        """
        encoder: Any = self.encoder
        image = covering(image, image.shape[-2], image.shape[-1], 1)
        grid = encoder.patch_embed(image)
        if encoder.pos_embed is not None:
            grid = grid + resized_positions(encoder.pos_embed, grid.shape[1], grid.shape[2])
        for block, prompts in zip(encoder.blocks, self.prompts, strict=True):
            assert isinstance(prompts, BlockPrompts)
            grid = grid + attend(block, block.norm1(grid), *prompts.of(batch_route, len(image)))
            normalized = block.norm2(grid)
            grid = grid + block.mlp(normalized) + prompts.adapter(normalized)
        embedding: Tensor = encoder.neck(grid.permute(0, 3, 1, 2))
        return EncoderFeatures(embedding, [])


def attend(block: nn.Module, grid: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Return a SAM block's attention over a grid and additional tokens, without the residual.

    In a block with windowed attention, every window of an image sees the image's tokens. Windows at
    the edge are padded with zeros, which take part in the attention, as in SAM.

    Args:
        block: Block with ``attn`` and ``window_size``, 0 for the whole grid.
        grid: ``(B, H, W, C)``, normalized.
        key: Keys of the tokens, ``(B, heads, tokens, d)``.
        value: Values of the tokens, with the same shape.
        bias: Bias added to the tokens' attention logits, ``(B,)``.
    """
    B, H, W, C = grid.shape
    side = int(getattr(block, "window_size"))  # noqa: B009  # no attribute of nn.Module
    height, width = (side, side) if side else (H, W)
    padded = F.pad(grid, (0, 0, 0, -W % width, 0, -H % height))
    rows, columns = padded.shape[1] // height, padded.shape[2] // width
    windows = padded.view(B, rows, height, columns, width, C).transpose(2, 3)
    windows = windows.reshape(B * rows * columns, height, width, C)
    per_window = [t.repeat_interleave(rows * columns, dim=0) for t in (key, value, bias)]
    attended = _attend_windows(block, windows, *per_window)
    attended = attended.view(B, rows, columns, height, width, C).transpose(2, 3)
    return attended.reshape(B, rows * height, columns * width, C)[:, :H, :W]


def _attend_windows(
    block: nn.Module, windows: Tensor, key: Tensor, value: Tensor, bias: Tensor
) -> Tensor:
    """Return the attention in each of N windows, ``(N, h, w, C)``."""
    attention = block.get_submodule("attn")
    N, h, w, C = windows.shape
    heads = _heads(block)
    qkv = attention.get_submodule("qkv")(windows).view(N, h * w, 3, heads, C // heads)
    q_NHLd, k_NHLd, v_NHLd = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    joined_bias = bias[:, None, None, None].expand(N, heads, h * w, key.shape[2])
    of_positions = _position_bias(attention, q_NHLd, h, w)
    mixed = F.scaled_dot_product_attention(
        q_NHLd,
        torch.cat([k_NHLd, key.to(k_NHLd.dtype)], dim=2),
        torch.cat([v_NHLd, value.to(v_NHLd.dtype)], dim=2),
        attn_mask=torch.cat([of_positions, joined_bias.to(of_positions.dtype)], dim=3),
    )
    mixed = mixed.transpose(1, 2).reshape(N, h, w, C)
    projected: Tensor = attention.get_submodule("proj")(mixed)
    return projected


def _position_bias(attention: nn.Module, query: Tensor, h: int, w: int) -> Tensor:
    """Return the bias of relative positions on the logits, ``(N, heads, h w, h w)``."""
    N, heads, L, d = query.shape
    table_h, table_w = (getattr(attention, name, None) for name in ("rel_pos_h", "rel_pos_w"))
    if table_h is None or table_w is None:
        return query.new_zeros(N, heads, L, L)
    grid = query.view(N, heads, h, w, d)
    along_h = torch.einsum("nahwd,hkd->nahwk", grid, relative_positions(table_h, h).to(grid.dtype))
    along_w = torch.einsum("nahwd,wkd->nahwk", grid, relative_positions(table_w, w).to(grid.dtype))
    return (along_h[..., :, None] + along_w[..., None, :]).reshape(N, heads, L, L)


def relative_positions(table: Tensor, size: int) -> Tensor:
    """Return the entries of a table of relative positions for ``size`` places, interpolated.

    Args:
        table: ``(2 n - 1, d)``, for the differences -(n - 1) to n - 1; exact if n is ``size``.
        size: Places along one axis.

    Returns:
        ``(size, size, d)``, by place of the query and place of the key.
    """
    if table.shape[0] != 2 * size - 1:
        table = F.interpolate(table.T[None], size=2 * size - 1, mode="linear")[0].T
    place = torch.arange(size, device=table.device)
    return table[place[:, None] - place[None] + size - 1]


def resized_positions(positions: Tensor, rows: int, columns: int) -> Tensor:
    """Return absolute positions, ``(1, h, w, C)``, for another grid; exact for their own."""
    if positions.shape[1:3] == (rows, columns):
        return positions
    resized = F.interpolate(
        positions.permute(0, 3, 1, 2), size=(rows, columns), mode="bicubic", align_corners=False
    )
    return resized.permute(0, 2, 3, 1)


def _heads(block: nn.Module) -> int:
    return int(getattr(block.get_submodule("attn"), "num_heads"))  # noqa: B009  # no attribute of nn.Module
