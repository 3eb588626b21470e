"""Networks from published checkpoints: De-LightSAM / ESP-MedSAM, MobileSAM and SAM."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from esp_medsam.errors import CheckpointError, ModalityError
from esp_medsam.networks.builders import (
    EMBED_DIM,
    RELEASED_MODALITIES,
    RELEASED_TARGETS,
    build_mobilesam_encoder,
    build_released,
)
from esp_medsam.networks.esp_medsam import ESPMedSAM
from esp_medsam.networks.hypernetwork import Hypernetwork
from esp_medsam.networks.key_maps import (
    MOBILE_SAM,
    KeyMap,
    delightsam,
    is_delightsam_controller,
)
from esp_medsam.networks.mask_decoder import MaskDecoder
from esp_medsam.networks.modality_controller import ModalityController
from esp_medsam.networks.position_encoding import RandomFourierEncoding
from esp_medsam.networks.sam_checkpoint import SAMCheckpoint, SAMVariant, from_sam
from esp_medsam.networks.state_dicts import compare, load_checkpoint, load_into


__all__ = [
    "SAMCheckpoint",
    "SAMVariant",
    "build_released_from_checkpoint",
    "from_delightsam",
    "from_delightsam_set",
    "from_mobilesam",
    "from_sam",
    "held_modalities",
    "load_checkpoint",
    "load_grown",
    "load_into",
    "load_shared",
    "to_delightsam",
]

_CONTROLLERS = ".bank.controllers."
_SHARED = ("image_encoder.", "mask_decoder.", "position_encoding.")
"""Parts of the network that all modalities share, and that a MobileSAM checkpoint also has."""

_CLASSIFIER = "image_encoder.classifier."
_HYPERNETWORK = "mask_decoder.hypernetwork."


def from_delightsam(
    state_dict: Mapping[str, Tensor], modality: str = "xray", *, source: str = "state_dict"
) -> ESPMedSAM:
    """Return the released network with an official checkpoint's weights.

    Its ``net(image)`` segments ``modality``. Inputs are RGB in 0..255, normalized as
    ``(x - mean) / mean`` with mean (123.675, 116.28, 103.53), because the released code does so.

    Args:
        state_dict: State dict of an official checkpoint, which has one modality but does not state
            which.
        modality: The modality it was trained on.
        source: Name of ``state_dict`` in messages, such as its file.

    Raises:
        ModalityError: If ``modality`` is not one of the released six.
        CheckpointError: If this is not a De-LightSAM checkpoint.
        CheckpointMismatchError: If entries are missing, unexpected or mis-shaped; it names all.
    """
    _check_modality(modality)
    network = build_released(modality)
    load_into(network, _from_delightsam(network, state_dict, modality, source))
    return network.eval()


def from_delightsam_set(state_dicts: Mapping[str, Mapping[str, Tensor]]) -> ESPMedSAM:
    """Return one released network with the controllers of several official checkpoints.

    Args:
        state_dicts: Official state dict of each modality. The first is the network's default.

    Raises:
        CheckpointError: If parameters that the modalities share differ between the checkpoints; it
            names every such tensor.
        CheckpointMismatchError: As for :func:`from_delightsam`.
        ModalityError: If a modality is not one of the released six, or none is given.
    """
    _check_modality(*state_dicts)
    network = build_released(list(state_dicts))
    merged: dict[str, Tensor] = {}
    for modality, theirs in state_dicts.items():
        merged |= _from_delightsam(network, theirs, modality, modality)
    _check_shared(state_dicts)
    load_into(network, merged)
    return network.eval()


def _check_shared(state_dicts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Require official checkpoints to be equal except for the parameters of their modalities."""
    (first, reference), *others = state_dicts.items()
    problems: list[str] = []
    for modality, theirs in others:
        differing = [
            key
            for key, tensor in reference.items()
            if not is_delightsam_controller(key) and not torch.equal(tensor, theirs[key])
        ]
        if differing:
            problems.append(f"{modality} differs from {first} in {', '.join(differing)}")
    if problems:
        msg = (
            "state_dicts must be equal except for their controllers to share a network; "
            f"{'; '.join(problems)}."
        )
        raise CheckpointError(msg)


def to_delightsam(network: ESPMedSAM, modality: str) -> dict[str, Tensor]:
    """Return one modality of a released network under the official names and in their shapes.

    Args:
        network: Network from ``build_released`` or :func:`from_delightsam`.
        modality: Modality whose controllers to return.

    Raises:
        ModalityError: If the network does not hold ``modality``.
    """
    if modality not in network.modalities:
        msg = f"modality must be one of {', '.join(network.modalities)}; got {modality!r}."
        raise ModalityError(msg)
    return _key_map(modality).to_theirs(network.state_dict())


def from_mobilesam(
    state_dict: Mapping[str, Tensor], *, source: str = "state_dict"
) -> dict[str, Tensor]:
    """Return the entries of MobileSAM's checkpoint that our modalities share, under our names.

    These are the image encoder without controllers, the frequencies of the positional encoding,
    and from the mask decoder the transformer, the upscaling and the hypernetwork of the first
    mask, which SAM uses for a single mask. The rest serves SAM's prompts and is left out.

    Args:
        state_dict: State dict of ``mobile_sam.pt``.
        source: Name of ``state_dict`` in messages, such as its file.

    Raises:
        CheckpointError: If this is not a MobileSAM checkpoint.
        CheckpointMismatchError: If entries are missing, unexpected or mis-shaped; it names all.
    """
    expected = MOBILE_SAM.to_theirs(_shared_entries())
    theirs = {key: value for key, value in state_dict.items() if not MOBILE_SAM.is_dropped(key)}
    _check_kind(source, "MobileSAM", state_dict, expected)
    compare(source, theirs, expected)
    return MOBILE_SAM.to_ours(theirs)


def _shared_entries() -> dict[str, Tensor]:
    """Return names and shapes of :func:`from_mobilesam`'s result, as tensors without storage."""
    with torch.device("meta"):
        parts: tuple[nn.Module, ...] = (
            build_mobilesam_encoder({}),
            MaskDecoder(Hypernetwork(EMBED_DIM, EMBED_DIM, out_dim=EMBED_DIM // 8), EMBED_DIM),
            RandomFourierEncoding(EMBED_DIM),
        )
    return {
        f"{prefix}{key}": value
        for prefix, part in zip(_SHARED, parts, strict=True)
        for key, value in part.state_dict().items()
    }


def load_shared(
    network: ESPMedSAM,
    shared: Mapping[str, Tensor],
    *,
    silence_experts: bool = False,
    source: str = "state_dict",
) -> None:
    """Load the result of :func:`from_mobilesam`; controllers and all else keep their values.

    This fits every design: a network without a classifier loads none, and a network with one
    hypernetwork per query, as from ``build_paper``, keeps its own hypernetworks.

    Fresh experts add noise to an encoder that was trained without them. Silenced experts start at
    zero and learn from there, so training starts from the loaded encoder, except for the
    controllers' window tokens, which stay unchanged.

    Args:
        network: Takes the values in its own precision; unchanged if anything is wrong.
        shared: The entries from :func:`from_mobilesam`, under our names.
        silence_experts: Whether to set the last linear layer of every controller's expert to
            zero. Only for a fresh network, as trained experts would be lost.
        source: Name of ``shared`` in messages.

    Raises:
        CheckpointError: If ``shared`` is something else altogether.
        CheckpointMismatchError: If entries are missing, unexpected or mis-shaped; it names all.
    """
    own = network.state_dict()
    has_classifier = any(key.startswith(_CLASSIFIER) for key in own)
    has_one_hypernetwork = isinstance(network.mask_decoder.hypernetwork, Hypernetwork)
    absent = (
        *(() if has_classifier else (_CLASSIFIER,)),
        *(() if has_one_hypernetwork else (_HYPERNETWORK,)),
    )
    expected = {
        key: value
        for key, value in own.items()
        if key.startswith(_SHARED) and _CONTROLLERS not in key and not key.startswith(absent)
    }
    fitting = {key: value for key, value in shared.items() if not key.startswith(absent)}
    remedy = " Convert the official file with `esp-medsam convert --from mobilesam`."
    _check_kind(source, "converted MobileSAM", shared, expected, remedy)
    compare(source, fitting, expected)
    network.load_state_dict(own | fitting)
    if silence_experts:
        _silence_experts(network, list(network.modalities))


def load_grown(
    network: ESPMedSAM, state_dict: Mapping[str, Tensor], *, source: str = "state_dict"
) -> tuple[list[str], list[str]]:
    """Load weights into a network that has more or fewer modalities or targets.

    Additional parts of the network keep their values, except that the experts of new controllers
    are silenced: they start at zero, so that training starts from the loaded weights. Presence
    heads may be on one side only.

    Args:
        network: Takes the values in its own precision; unchanged if anything is wrong.
        state_dict: Weights of a network of the same design, except for presence heads.
        source: Name of ``state_dict`` in messages.

    Returns:
        Names of the parts that stay fresh, and of those left out: ``thyroid_us``, ``ct.spleen``;
        ``presence`` for all presence heads.

    Raises:
        CheckpointMismatchError: If anything else is missing, unexpected or mis-shaped; it names
            all of it.
    """
    own = network.state_dict()
    one_side = _has_presence(own) != _has_presence(state_dict)
    ours, theirs = ({_owner_of(key, one_side) for key in k} for k in (own, state_dict))
    fresh, left_out = sorted(ours - theirs), sorted(theirs - ours)
    held = {k: v for k, v in state_dict.items() if _owner_of(k, one_side) not in left_out}
    compare(source, held, {k: v for k, v in own.items() if _owner_of(k, one_side) not in fresh})
    network.load_state_dict(own | held)
    _silence_experts(network, [name for name in fresh if name in network.modalities])
    return [name.rstrip(".") for name in fresh], [name.rstrip(".") for name in left_out]


_PRESENCE = "presence."

_OWNED = (
    "prompt_generator.heads.",
    "modality_query.targets.",
    "presence.heads.",
    "target_adapters.adapters.",
)
"""Prefixes of parameters that a target owns; a modality owns its controllers."""


def _has_presence(keys: Collection[str]) -> bool:
    return any(key.startswith(_PRESENCE) for key in keys)


def _owner_of(key: str, presence_apart: bool) -> str:
    """Return the owner of a parameter: a modality, a target, or empty if all modalities share it.

    ``presence_apart`` gives presence heads their own owner, with a name no modality can have.
    """
    if presence_apart and key.startswith(_PRESENCE):
        return _PRESENCE
    modality = key.partition(_CONTROLLERS)[2].partition(".")[0]
    target = next((key.removeprefix(start) for start in _OWNED if key.startswith(start)), "")
    return modality or ".".join(target.split(".")[:2])


def _silence_experts(network: ESPMedSAM, modalities: Collection[str]) -> None:
    """Set the last linear layer of the experts of these modalities to zero."""
    for name, module in network.named_modules():
        if isinstance(module, ModalityController) and name.rpartition(".")[2] in modalities:
            nn.init.zeros_(module.expert.fc2.weight)
            nn.init.zeros_(module.expert.fc2.bias)


def held_modalities(state_dict: Mapping[str, Tensor]) -> list[str]:
    """Return the modalities whose controllers are in one of our state dicts, in its order."""
    names = (key.partition(_CONTROLLERS)[2].partition(".")[0] for key in state_dict)
    return list(dict.fromkeys(name for name in names if name))


def build_released_from_checkpoint(path: str | os.PathLike[str]) -> ESPMedSAM:
    """Return the released network with the weights of a converted checkpoint.

    The modalities are read from the checkpoint's own names; the first is the default.

    Args:
        path: File written by ``esp-medsam convert --from delightsam``.

    Raises:
        InputNotFoundError: If the file does not exist.
        CheckpointError: If it is not a converted checkpoint.
        CheckpointMismatchError: If entries are missing, unexpected or mis-shaped; it names all.
    """
    state_dict = load_checkpoint(path)
    held = held_modalities(state_dict)
    if not held or not set(held) <= set(RELEASED_MODALITIES):
        msg = (
            f"{os.fspath(path)} must be a converted De-LightSAM checkpoint; it holds controllers "
            f"of {', '.join(held) or 'no modality under our names'}. Convert the official file "
            "with `esp-medsam convert --from delightsam`."
        )
        raise CheckpointError(msg)
    network = build_released(held)
    load_into(network, state_dict, source=os.fspath(path))
    return network.eval()


def _key_map(modality: str) -> KeyMap:
    return delightsam(modality, RELEASED_TARGETS)


def _from_delightsam(
    network: ESPMedSAM, state_dict: Mapping[str, Tensor], modality: str, source: str
) -> dict[str, Tensor]:
    """Return an official state dict under our names, after checking it."""
    key_map = _key_map(modality)
    expected = key_map.to_theirs(network.state_dict())
    _check_kind(source, "De-LightSAM", state_dict, expected)
    compare(source, state_dict, expected)
    return key_map.to_ours(state_dict)


def _check_kind(
    source: str,
    kind: str,
    state_dict: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    remedy: str = "",
) -> None:
    """Refuse the checkpoint of an entirely different network, with a short message."""
    found = sum(key in expected for key in state_dict)
    if 2 * found < len(expected):
        example = next(iter(state_dict), "nothing")
        msg = (
            f"{source} must be a {kind} checkpoint; got {len(state_dict)} entries, such as "
            f"{example}; {found} of them are among the {len(expected)} expected.{remedy}"
        )
        raise CheckpointError(msg)


def _check_modality(*modalities: str) -> None:
    unknown = [name for name in modalities if name not in RELEASED_MODALITIES]
    if unknown or not modalities:
        msg = (
            f"modality must be one of {', '.join(RELEASED_MODALITIES)}; "
            f"got {', '.join(unknown) or 'none'}."
        )
        raise ModalityError(msg)
