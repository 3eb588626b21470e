"""MSA-Conv: multi-head self-attention inside a convolution's window, on images of any size.

A convolution weights the values under its kernel by learned numbers; here attention weights them.
Each output position attends to the positions under the kernel, so that cost is linear in the
pixels and no parameter depends on their number.

Reference:
    Zhang et al., "Vision Transformer in Convolution" (TiC), arXiv:2310.04134. The released operator
    is the case ``heads=1, mask_outside=False`` at stride 1; multiple heads, the depthwise form, the
    position bias and the offsets follow the abstract's wording and are our design.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.networks.kernel_taps import Taps, dots, mixture, tap_copies
from esp_medsam.networks.modality_controller import WindowToken


OUTSIDE_LOGIT = -1e4
"""Attention logit of a tap outside the image; finite to avoid NaN if no tap is inside."""


class MSAConv(nn.Module):
    """Self-attention of each position to the positions under a kernel.

    Taps outside the image have value 0. Keys and values are never copied for each tap: taps are
    views of one padded map, and the only memory beyond the input's size is one attention weight
    for each head and tap.

    Args:
        dim: Channels C.
        heads: Attention heads; always C in the depthwise form, whatever is given.
        kernel_size: Rows and columns of the kernel, odd; one number for both.
        dilation: Steps between its taps, in rows and columns; one number for both.
        stride: Step between output positions, in rows and columns; one number for both.
        depthwise: Whether each channel attends alone, with its own scale and shift for query, key
            and value. There are then as many attention weights as taps of all channels.
        mask_outside: Whether taps outside the image get no attention. The released operator keeps
            them, with logit 0.
        position_bias: Whether a learned number for each head and tap is added to its logit. The
            released operator ignores positions.
        offsets: Cells, in rows and columns, by which the kernel of each head is moved from the
            output position; None moves none.

    Raises:
        ValueError: If a number is invalid.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 1,
        kernel_size: int | tuple[int, int] = 3,
        *,
        dilation: int | tuple[int, int] = 1,
        stride: int | tuple[int, int] = 1,
        depthwise: bool = False,
        mask_outside: bool = True,
        position_bias: bool = False,
        offsets: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__()
        heads = dim if depthwise else heads
        if heads < 1 or dim % heads:
            msg = f"heads must divide dim; got {heads} and {dim}."
            raise ValueError(msg)
        self.heads = heads
        self.kernel_size = _pair("kernel_size", kernel_size)
        if not all(side % 2 for side in self.kernel_size):
            msg = f"kernel_size must be odd; got {self.kernel_size}."
            raise ValueError(msg)
        self.dilation = _pair("dilation", dilation)
        self.stride = _pair("stride", stride)
        self.depthwise = depthwise
        self.mask_outside = mask_outside
        self.outside_logit = OUTSIDE_LOGIT  # TorchScript sees attributes, not globals
        self.scale = (dim // heads) ** -0.5
        self.runs = _runs([(0, 0)] * heads if offsets is None else offsets)
        if sum(length for length, _, _ in self.runs) != heads:
            msg = f"offsets must have one for each of {heads} heads; got {len(offsets or ())}."
            raise ValueError(msg)
        self.qkv = nn.Conv2d(dim, 3 * dim, kernel_size=1, groups=dim if depthwise else 1)
        self.position_bias: nn.Parameter | None
        if position_bias:
            taps = self.kernel_size[0] * self.kernel_size[1]
            self.position_bias = nn.Parameter(torch.zeros(heads, taps))
        else:
            self.register_parameter("position_bias", None)

    def forward(self, features: Tensor, token: WindowToken | None = None) -> Tensor:
        """Return the attended value of each output position, without projection and residual.

        Args:
            features: ``(B, C, H, W)``, with any H and W.
            token: A modality's token, an additional key and value under every kernel.

        Returns:
            ``(B, C, ceil(H / stride), ceil(W / stride))``.
        """
        size = (features.shape[-2], features.shape[-1])
        taps = Taps(self.kernel_size, self.dilation, self.stride, size)
        query, key, value = self._query_key_value(features)
        query = query[:, :: self.stride[0], :: self.stride[1]] * self.scale
        attention = self._biased(dots(query, self._around(key), taps), taps)
        if token is not None:
            token_logit = (query * token.key[:, None, None].to(query.dtype)).sum(-1)
            token_logit = token_logit + token.bias[:, None, None, None]
            attention = torch.cat([attention, token_logit[None]])
        attention = attention.softmax(dim=0)
        count = self.kernel_size[0] * self.kernel_size[1]
        mixed = mixture(attention[:count], self._around(value), taps)
        if token is not None:
            mixed = mixed + attention[-1, ..., None] * token.value[:, None, None].to(value.dtype)
        return mixed.flatten(3).permute(0, 3, 1, 2).to(features.dtype)

    def _query_key_value(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value, ``(B, H, W, heads, C / heads)`` each, in float32 or wider.

        Sums over many taps need the precision, and CPUs multiply bfloat16 slowly outside matrices.
        """
        B, C, H, W = features.shape
        qkv = self.qkv(features).permute(0, 2, 3, 1)
        if qkv.dtype != torch.float64:
            qkv = qkv.float()
        if self.depthwise:
            query, key, value = qkv.view(B, H, W, C, 1, 3).unbind(-1)
        else:
            query, key, value = qkv.view(B, H, W, 3, self.heads, C // self.heads).unbind(3)
        return query, key, value

    def _around(self, grid: Tensor) -> Tensor:
        """Return ``grid``, ``(B, H, W, heads, d)``, moved for each head and padded with 0."""
        H, W = grid.shape[1], grid.shape[2]
        top = self.dilation[0] * (self.kernel_size[0] // 2)
        left = self.dilation[1] * (self.kernel_size[1] // 2)
        parts: list[Tensor] = []
        first = 0
        for length, down, right in self.runs:
            down = max(-H - top, min(H + top, down))  # further away is also empty
            right = max(-W - left, min(W + left, right))
            part = grid[:, :, :, first : first + length]
            sides = [0, 0, 0, 0, left - right, left + right, top - down, top + down]
            parts.append(F.pad(part, sides))
            first += length
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=3)

    def _biased(self, logits: Tensor, taps: Taps) -> Tensor:
        """Return logits, ``(taps, B, h, w, heads)``, with their position biases added."""
        if self.position_bias is not None:
            logits = logits + self.position_bias.t()[:, None, None, None]
        if self.mask_outside:
            H, W = taps.size
            inside = torch.ones([1, H, W, self.heads, 1], dtype=torch.bool, device=logits.device)
            held = tap_copies(self._around(inside), taps)[..., 0]
            logits = logits.masked_fill(~held, self.outside_logit)
        return logits


def _pair(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    rows, columns = (value, value) if isinstance(value, int) else value
    if rows < 1 or columns < 1:
        msg = f"{name} must be at least 1; got {value}."
        raise ValueError(msg)
    return rows, columns


def _runs(offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Return runs of neighboring heads with the same offset: count, rows and columns."""
    runs: list[tuple[int, int, int]] = []
    for down, right in offsets:
        if runs and runs[-1][1:] == (down, right):
            runs[-1] = (runs[-1][0] + 1, down, right)
        else:
            runs.append((1, down, right))
    return runs
