"""SAM's image encoders: recognized by width, then checked entry by entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from esp_medsam.errors import CheckpointError
from esp_medsam.networks.state_dicts import compare


class SAMVariant(NamedTuple):
    """Properties that distinguish SAM's image encoders.

    Attributes:
        name: Name in segment_anything's registry.
        width: Channels of a token.
        depth: Transformer blocks.
        heads: Attention heads.
        global_blocks: Blocks that attend to the whole image; the others attend in windows.
    """

    name: str
    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]


SAM_VARIANTS = (
    SAMVariant("vit_b", 768, 12, 12, (2, 5, 8, 11)),
    SAMVariant("vit_l", 1024, 24, 16, (5, 11, 17, 23)),
    SAMVariant("vit_h", 1280, 32, 16, (7, 15, 23, 31)),
)
"""The three published encoders; only the length of relative positions reveals the heads."""

_GRID = 64
"""Side of the token grid, 1024 pixels in patches of 16."""

_WINDOW = 14
_EMBED_DIM = 256
_ENCODER = "image_encoder."
_OTHER_PARTS = ("prompt_encoder.", "mask_decoder.")


class SAMCheckpoint(NamedTuple):
    """A SAM image encoder, ready for segment_anything's ``ImageEncoderViT``.

    Attributes:
        variant: Variant of the encoder.
        state_dict: Its entries, without the prefix ``image_encoder.``.
    """

    variant: SAMVariant
    state_dict: dict[str, Tensor]


def from_sam(state_dict: Mapping[str, Tensor], *, source: str = "state_dict") -> SAMCheckpoint:
    """Return the image encoder of a SAM checkpoint and its variant.

    Args:
        state_dict: State dict of SAM, or of a network derived from it.
            Prompt encoder and mask decoder are left out.
        source: Name of ``state_dict`` in messages, such as its file.

    Raises:
        CheckpointError: If it holds no SAM image encoder of a known width.
        CheckpointMismatchError: If entries are missing, unexpected or mis-shaped; it names all.
    """
    theirs = {k: v for k, v in state_dict.items() if not k.startswith(_OTHER_PARTS)}
    variant = _recognize(theirs, source)
    expected = {f"{_ENCODER}{key}": value for key, value in encoder_entries(variant).items()}
    compare(source, theirs, expected)
    return SAMCheckpoint(variant, {key.removeprefix(_ENCODER): v for key, v in theirs.items()})


def _recognize(state_dict: Mapping[str, Tensor], source: str) -> SAMVariant:
    patch_embed = state_dict.get(f"{_ENCODER}patch_embed.proj.weight")
    width = -1 if patch_embed is None else patch_embed.shape[0] if patch_embed.dim() else 0
    for variant in SAM_VARIANTS:
        if variant.width == width:
            return variant
    known = ", ".join(f"{variant.name} ({variant.width})" for variant in SAM_VARIANTS)
    found = "no image_encoder.patch_embed.proj.weight" if width < 0 else f"width {width}"
    msg = f"{source} must be a SAM checkpoint of {known}; got {found}."
    raise CheckpointError(msg)


def encoder_entries(variant: SAMVariant) -> dict[str, Tensor]:
    """Return names and shapes of an encoder's state dict, as tensors without storage."""
    width = variant.width
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, _GRID, _GRID, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "neck.0.weight": (_EMBED_DIM, width, 1, 1),
        "neck.2.weight": (_EMBED_DIM, _EMBED_DIM, 3, 3),
    }
    for norm in ("neck.1", "neck.3"):
        shapes |= {f"{norm}.weight": (_EMBED_DIM,), f"{norm}.bias": (_EMBED_DIM,)}
    for block in range(variant.depth):
        side = _GRID if block in variant.global_blocks else _WINDOW
        shapes |= {
            f"blocks.{block}.{key}": shape
            for key, shape in _block_shapes(width, width // variant.heads, side).items()
        }
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def _block_shapes(width: int, head_dim: int, side: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a transformer block that attends over ``side`` x ``side`` tokens."""
    shapes: dict[str, tuple[int, ...]] = {
        "attn.rel_pos_h": (2 * side - 1, head_dim),
        "attn.rel_pos_w": (2 * side - 1, head_dim),
    }
    linear = {
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
        "mlp.lin1": (4 * width, width),
        "mlp.lin2": (width, 4 * width),
    }
    for name, (rows, columns) in linear.items():
        shapes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    for norm in ("norm1", "norm2"):
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    return shapes
