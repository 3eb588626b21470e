"""Tables from parameter names of published checkpoints to ours, used in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class KeyMap:
    """Mapping between the entries of a published checkpoint and of our network.

    Args:
        prefixes: From their module or parameter name to ours; the longest match counts. None marks
            entries that are dropped on purpose.
        views: From their entry's name, or its end, to the tensor's shapes there and here, each
            with one -1.
        stacks: From their entry's name to our names, one for each row, in order.
    """

    prefixes: Mapping[str, str | None]
    views: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    stacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def is_dropped(self, key: str) -> bool:
        """Whether we leave out their entry ``key`` on purpose."""
        found = _longest_prefix(key, self.prefixes)
        return found is not None and self.prefixes[found] is None

    def to_ours(self, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a checkpoint's entries under our names and in our shapes.

        Raises:
            KeyError: If an entry has no counterpart here; compare with :meth:`to_theirs` first.
        """
        ours: dict[str, Tensor] = {}
        for key, tensor in theirs.items():
            if key in self.stacks:
                ours.update(zip(self.stacks[key], torch.split(tensor, 1), strict=True))
                continue
            prefix = _longest_prefix(key, self.prefixes)
            if prefix is None:
                raise KeyError(key)
            replacement = self.prefixes[prefix]
            if replacement is not None:
                shape = self._shapes(key)
                ours[replacement + key[len(prefix) :]] = (
                    tensor if shape is None else tensor.reshape(shape[1])
                )
        return ours

    def to_theirs(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return our entries under a checkpoint's names and in its shapes.

        Entries that are not in the table are left out, such as other modalities' controllers.
        """
        prefixes = {ours: theirs for theirs, ours in self.prefixes.items() if ours is not None}
        theirs = {
            key: torch.cat([ours[row] for row in rows])
            for key, rows in self.stacks.items()
            if all(row in ours for row in rows)
        }
        stacked = {row for rows in self.stacks.values() for row in rows}
        for key, tensor in ours.items():
            prefix = _longest_prefix(key, prefixes)
            if prefix is not None and key not in stacked:
                their_key = prefixes[prefix] + key[len(prefix) :]
                shape = self._shapes(their_key)
                theirs[their_key] = tensor if shape is None else tensor.reshape(shape[0])
        return theirs

    def _shapes(self, their_key: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        ends = (shapes for end, shapes in self.views.items() if their_key.endswith(end))
        return next(ends, None)


def _longest_prefix(key: str, prefixes: Mapping[str, str | None] | Mapping[str, str]) -> str | None:
    """Return the longest of ``prefixes`` that equals ``key`` or ends at one of its dots."""
    prefix = key
    while prefix not in prefixes:
        prefix, dot, _ = prefix.rpartition(".")
        if not dot:
            return None
    return prefix


def _under(theirs: str, ours: str, prefixes: Mapping[str, str]) -> dict[str, str]:
    return {f"{theirs}.{key}": f"{ours}.{value}" for key, value in prefixes.items()}


_CONV_NORM = {"c": "conv", "bn": "norm"}

_EXPAND_AND_PROJECT = {
    **_under("conv1", "expand", _CONV_NORM),
    **_under("conv2", "depthwise", _CONV_NORM),
    **_under("conv3", "project", _CONV_NORM),
}

_TRANSFORMER_BLOCK = {
    "attn": "attention",
    **_under("local_conv", "local_conv", _CONV_NORM),
    "mlp": "mlp",
}

_DEPTHS = {1: 2, 2: 6, 3: 2}
"""Number of transformer blocks by TinyViT layer; layer n is our stage n - 1."""

TINY_VIT = {
    **_under("patch_embed.seq.0", "stem1", _CONV_NORM),
    **_under("patch_embed.seq.2", "stem2", _CONV_NORM),
    **_under("layers.0.blocks.0", "conv_stage.0", _EXPAND_AND_PROJECT),
    **_under("layers.0.blocks.1", "conv_stage.1", _EXPAND_AND_PROJECT),
    **_under("layers.0.downsample", "merge", _EXPAND_AND_PROJECT),
    **_under("layers.1.downsample", "stages.0.merge", _EXPAND_AND_PROJECT),
    **_under("layers.2.downsample", "stages.1.merge", _EXPAND_AND_PROJECT),
    **{
        key: value
        for layer, depth in _DEPTHS.items()
        for block in range(depth)
        for key, value in _under(
            f"layers.{layer}.blocks.{block}",
            f"stages.{layer - 1}.blocks.{block}",
            _TRANSFORMER_BLOCK,
        ).items()
    },
    "neck": "neck",
    "norm_head": "classifier.0",
    "head": "classifier.1",
}
"""The shared part of the image encoder, from official TinyViT and MobileSAM names to ours."""


def _controllers(modality: str) -> dict[str, str]:
    """Return the names of a De-LightSAM checkpoint's modality-owned entries, mapped to ours."""
    prefixes: dict[str, str] = {}
    for layer, depth in _DEPTHS.items():
        for block in range(depth):
            theirs = f"layers.{layer}.blocks.{block}"
            ours = f"stages.{layer - 1}.blocks.{block}.bank.controllers.{modality}"
            prefixes[f"{theirs}.attn.deep_QKV_embeddings_med"] = f"{ours}.key"
            prefixes[f"{theirs}.attn.med_attention_biases"] = f"{ours}.bias"
            prefixes[f"{theirs}.med_dah"] = f"{ours}.expert"
    return prefixes


def is_delightsam_controller(key: str) -> bool:
    """Whether a modality owns the entry ``key`` of an official checkpoint."""
    return _longest_prefix(key, _OWNED) is not None


_OWNED = {f"SemiTViT.{key}": value for key, value in _controllers("").items()}

_MASK_DECODER = {
    "transformer": "transformer",
    "transformer.layers.0.mlp.lin1": "transformer.layers.0.lin1",
    "transformer.layers.0.mlp.lin2": "transformer.layers.0.lin2",
    "transformer.layers.1.mlp.lin1": "transformer.layers.1.lin1",
    "transformer.layers.1.mlp.lin2": "transformer.layers.1.lin2",
    "output_upscaling": "upscaling",
    "output_hypernetworks_mlps.0.layers.0": "hypernetwork.fc1",
    "output_hypernetworks_mlps.0.layers.1": "hypernetwork.fc2",
    "output_hypernetworks_mlps.0.layers.2": "hypernetwork.fc3",
}

_FREQUENCIES = {
    "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": "position_encoding.frequencies"
}

MOBILE_SAM = KeyMap(
    prefixes={
        **_under("image_encoder", "image_encoder", TINY_VIT),
        **_under("mask_decoder", "mask_decoder", _MASK_DECODER),
        **_FREQUENCIES,
        "prompt_encoder": None,
        "mask_decoder": None,
    }
)
"""MobileSAM's checkpoint: the part that all modalities share here.

Its prompts, tokens and quality head are dropped, as are the hypernetworks of its three other masks.
"""

_PROMPTS = {
    "patch_decoder.0": "prompt_generator.patch_features.0",
    "patch_decoder.1": "prompt_generator.patch_features.1",
    "patch_decoder.3": "prompt_generator.heads.all.targets",
    "dense_prompter": "prompt_generator.prompt_embed",
    **_FREQUENCIES,
    "prompt_encoder": "unused_prompt_encoder",
}


def delightsam(modality: str, targets: Mapping[str, list[str]]) -> KeyMap:
    """Return the table for a De-LightSAM / ESP-MedSAM checkpoint.

    Args:
        modality: The modality that the checkpoint's controllers belong to.
        targets: Target of each modality, in the order of the checkpoint's queries.
    """
    queries = [f"{name}.{target}" for name, names in targets.items() for target in names]
    return KeyMap(
        prefixes={
            **_under("SemiTViT", "image_encoder", TINY_VIT | _controllers(modality)),
            **_under("mask_decoder", "mask_decoder", _MASK_DECODER),
            **_PROMPTS,
        },
        views={
            "attn.deep_QKV_embeddings_med": ((-1, 1, 32), (-1, 32)),
            "patch_decoder.3.weight": ((1, -1, 1, 1), (-1,)),
        },
        stacks={
            "mask_query.weight": (
                *(f"modality_query.targets.{query}.tokens" for query in queries),
                "modality_query.spare",
            )
        },
    )
