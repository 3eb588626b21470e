"""Build the three networks: the released one, the paper's, and the product's own."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from torch import nn

from esp_medsam.networks.esp_medsam import ESPMedSAM
from esp_medsam.networks.high_resolution import HighResolutionPath
from esp_medsam.networks.hypernetwork import Hypernetwork, HypernetworkPerQuery
from esp_medsam.networks.image_encoder import TinyViTImageEncoder
from esp_medsam.networks.layers import LayerNorm2d
from esp_medsam.networks.mask_decoder import MaskDecoder
from esp_medsam.networks.modality_query import ModalityQueries
from esp_medsam.networks.position_encoding import RandomFourierEncoding
from esp_medsam.networks.presence import PresenceHeads
from esp_medsam.networks.prompt_generator import SelfPatchPromptGenerator
from esp_medsam.networks.sam_teacher import SAMTeacherEncoder
from esp_medsam.networks.target_adapter import TargetAdapters
from esp_medsam.networks.tic import TiCImageEncoder


EMBED_DIM = 256
"""Channels of SAM's image embedding, which the decoder and prompt generator take."""

RELEASED_MODALITIES = {
    "dermoscopy": 0,
    "xray": 1,
    "ultrasound": 2,
    "fundus": 3,
    "microscopy": 4,
    "endoscopy": 5,
}
"""Modalities of the released checkpoints, with the row of their query."""

RELEASED_TARGETS = {
    "dermoscopy": ["lesion"],
    "xray": ["lungs"],
    "ultrasound": ["breast_lesion"],
    "fundus": ["vessels"],
    "microscopy": ["nuclei"],
    "endoscopy": ["polyp"],
}
"""What each released query segments."""


def build_network(
    *,
    modalities: Mapping[str, int],
    targets: Mapping[str, Sequence[str]],
    default_modality: str,
    expert_ratio: float,
    controller_token: Literal["tied", "separate"],
    decoding: Literal["joint", "isolated"],
    hypernetwork: Literal["shared", "per_query"],
    patch_map: Literal["shared", "per_target"],
    prompt: Literal["hard", "straight_through", "soft"] = "hard",
    presence: bool = False,
    tokens_per_target: int = 1,
    spare_queries: int = 0,
    high_resolution_widths: Sequence[int] | None = None,
    adapted: Mapping[str, Sequence[str]] | None = None,
    keep_unused: bool = False,
    image_encoder: Literal["tiny_vit", "tic"] | SAMTeacherEncoder = "tiny_vit",
) -> ESPMedSAM:
    """Build a network from its design choices.

    Args:
        modalities: Index of each modality that gets a controller.
        targets: Target names of each modality that gets queries.
        default_modality: Modality that the network assumes if none is given.
        expert_ratio: Hidden width of an expert over its block's width. Paper and code: 4, as
            wide as the block's own feed-forward part.
        controller_token: Code: one "tied" token per block is both key and value. Paper's figure:
            "separate" tokens.
        decoding: Code and paper: "joint", all queries go through the decoder together and see
            each other. "isolated" decodes every target alone, so that adding a target or modality
            does not change other masks.
        hypernetwork: Code: one "shared" by all queries. Paper's figure: one "per_query".
        patch_map: Code and paper: one "shared" by all targets. "per_target" predicts one for each.
        prompt: How patch logits become a prompt; code and paper: "hard". See
            :class:`SelfPatchPromptGenerator`.
        presence: Whether to predict for each target if an image holds it; neither code nor paper
            does.
        tokens_per_target: Tokens of a target; code and paper have 1.
        spare_queries: Queries that are not used for any mask; the released network has one.
        high_resolution_widths: Channels of the high-resolution path at strides 8, 4, 2 and 1;
            None, as in code and paper, leaves it out.
        adapted: Names of the targets that have an adapter, by modality; None for no adapters, as
            in code and paper.
        keep_unused: Whether to hold the parameters that the released checkpoints contain but
            nothing uses (ImageNet head, SAM's point and mask prompts).
        image_encoder: "tiny_vit", as in code and paper; "tic", for images of any size; or an
            encoder, which ignores ``expert_ratio`` and ``controller_token``.

    Returns:
        The network, freshly initialized.

    Raises:
        ValueError: If a name or number is invalid.
    """
    encoder: SAMTeacherEncoder | TinyViTImageEncoder | TiCImageEncoder
    tied_token = controller_token == "tied"
    if image_encoder == "tic":
        encoder = TiCImageEncoder(
            modalities, embed_dim=EMBED_DIM, expert_ratio=expert_ratio, tied_token=tied_token
        )
    elif image_encoder == "tiny_vit":
        encoder = TinyViTImageEncoder(
            modalities,
            embed_dim=EMBED_DIM,
            expert_ratio=expert_ratio,
            tied_token=tied_token,
            keep_classifier=keep_unused,
        )
    else:
        encoder = image_encoder

    def head(hidden_dim: int, out_dim: int) -> nn.Module:
        if hypernetwork == "shared":
            return Hypernetwork(EMBED_DIM, hidden_dim, out_dim=out_dim)
        return HypernetworkPerQuery(targets, EMBED_DIM, hidden_dim, out_dim=out_dim)

    path, path_head = None, None
    if high_resolution_widths is not None:
        path = HighResolutionPath(EMBED_DIM, encoder.pyramid_channels, high_resolution_widths)
        path_head = head(EMBED_DIM, path.out_dim)
    network = ESPMedSAM(
        image_encoder=encoder,
        position_encoding=RandomFourierEncoding(EMBED_DIM),
        prompt_generator=SelfPatchPromptGenerator(
            None if patch_map == "shared" else targets, embed_dim=EMBED_DIM, prompt=prompt
        ),
        modality_query=ModalityQueries(
            targets,
            EMBED_DIM,
            tokens_per_target=tokens_per_target,
            joint=decoding == "joint",
            spare=spare_queries,
        ),
        mask_decoder=MaskDecoder(head(EMBED_DIM, EMBED_DIM // 8), EMBED_DIM),
        high_resolution=path,
        high_resolution_head=path_head,
        presence=PresenceHeads(targets, EMBED_DIM) if presence else None,
        target_adapters=TargetAdapters(targets, adapted, EMBED_DIM) if adapted else None,
        modalities=modalities,
        targets=targets,
        default_modality=default_modality,
    )
    if keep_unused:
        network.unused_prompt_encoder = UnusedPromptEncoder(EMBED_DIM)
    return network


class UnusedPromptEncoder(nn.Module):
    """SAM's embeddings of points, boxes and masks, which the released checkpoints contain.

    They are unused, because this network makes its own prompts. They are kept so that a converted
    checkpoint is complete and parameter counts are exact.
    """

    def __init__(self, dim: int = 256) -> None:
        super().__init__()
        self.point_embeddings = nn.ModuleList([nn.Embedding(1, dim) for _ in range(4)])
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.no_mask_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, kernel_size=2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, dim, kernel_size=1),
        )


def build_released(modality: str | Sequence[str] = "dermoscopy") -> ESPMedSAM:
    """Build the network of the released De-LightSAM / ESP-MedSAM checkpoints.

    The network keeps their unused parameters, so that counts and key reports are exact.

    Args:
        modality: The modality whose controller the network holds, as each released checkpoint has
            one; several for merged checkpoints. The first is the default.

    Raises:
        ValueError: If a modality is not one of the released six.
    """
    names = [modality] if isinstance(modality, str) else list(modality)
    unknown = [name for name in names if name not in RELEASED_MODALITIES]
    if unknown or not names:
        msg = f"modality must be one of {', '.join(RELEASED_MODALITIES)}; got {', '.join(unknown)}."
        raise ValueError(msg)
    return build_released_design(
        {name: RELEASED_MODALITIES[name] for name in names}, RELEASED_TARGETS, names[0]
    )


def build_released_design(
    modalities: Mapping[str, int], targets: Mapping[str, Sequence[str]], default_modality: str
) -> ESPMedSAM:
    """Build the released network's design for any modalities and targets.

    Args:
        modalities: Index of each modality that gets a controller.
        targets: Target names of each modality that gets queries.
        default_modality: Modality that the network assumes if none is given.
    """
    return build_network(
        modalities=modalities,
        targets=targets,
        default_modality=default_modality,
        expert_ratio=4.0,
        controller_token="tied",
        decoding="joint",
        hypernetwork="shared",
        patch_map="shared",
        spare_queries=1,
        keep_unused=True,
    )


def build_paper(
    modalities: Mapping[str, int] | None = None,
    targets: Mapping[str, Sequence[str]] | None = None,
    default_modality: str = "dermoscopy",
) -> ESPMedSAM:
    """Build the network as drawn in the paper's figures.

    Unlike the released code, it has separate key and value tokens and a hypernetwork per query.

    Args:
        modalities: Index of each modality; None for the paper's six.
        targets: Target names of each modality; None for the paper's.
        default_modality: Modality that the network assumes if none is given.
    """
    return build_network(
        modalities=RELEASED_MODALITIES if modalities is None else modalities,
        targets=RELEASED_TARGETS if targets is None else targets,
        default_modality=default_modality,
        expert_ratio=4.0,
        controller_token="separate",
        decoding="joint",
        hypernetwork="per_query",
        patch_map="shared",
    )


def build_product(
    modalities: Mapping[str, int],
    targets: Mapping[str, Sequence[str]],
    default_modality: str | None = None,
    *,
    expert_ratio: float = 0.5,
    tokens_per_target: int = 1,
    prompt: Literal["hard", "straight_through", "soft"] = "hard",
    presence: bool = False,
    high_resolution_widths: Sequence[int] = (64, 32, 24, 16),
    adapted: Mapping[str, Sequence[str]] | None = None,
    image_encoder: Literal["tiny_vit", "tic"] = "tiny_vit",
) -> ESPMedSAM:
    """Build the network that this project trains and ships.

    Targets are decoded in isolation, experts are narrow, and a high-resolution path draws thin
    structures.

    Args:
        modalities: Index of each modality that gets a controller.
        targets: Target names of each modality.
        default_modality: Modality that the network assumes if none is given; None means ct, or the
            first modality if there is no ct.
        expert_ratio: See :func:`build_network`.
        tokens_per_target: See :func:`build_network`.
        prompt: See :func:`build_network`.
        presence: See :func:`build_network`.
        high_resolution_widths: See :func:`build_network`.
        adapted: See :func:`build_network`.
        image_encoder: See :func:`build_network`.
    """
    return build_network(
        modalities=modalities,
        targets=targets,
        default_modality=_default(default_modality, modalities),
        expert_ratio=expert_ratio,
        controller_token="separate",
        decoding="isolated",
        hypernetwork="shared",
        patch_map="per_target",
        tokens_per_target=tokens_per_target,
        prompt=prompt,
        presence=presence,
        high_resolution_widths=high_resolution_widths,
        adapted=adapted,
        image_encoder=image_encoder,
    )


def build_teacher(
    encoder: nn.Module,
    modalities: Mapping[str, int],
    targets: Mapping[str, Sequence[str]],
    default_modality: str | None = None,
    *,
    tokens: int = 8,
    adapter_ratio: float = 0.25,
) -> ESPMedSAM:
    """Build the medical teacher: a frozen SAM encoder with tokens and adapters, and our decoder.

    Args:
        encoder: SAM's image encoder, see :class:`SAMTeacherEncoder`; frozen here.
        modalities: Index of each modality that gets tokens.
        targets: Target names of each modality.
        default_modality: As in :func:`build_product`.
        tokens: Number of tokens of a modality in each block.
        adapter_ratio: Hidden width of an adapter over the encoder's width.
    """
    return build_network(
        modalities=modalities,
        targets=targets,
        default_modality=_default(default_modality, modalities),
        expert_ratio=0.0,
        controller_token="separate",
        decoding="isolated",
        hypernetwork="shared",
        patch_map="per_target",
        image_encoder=SAMTeacherEncoder(
            encoder, list(modalities), tokens=tokens, adapter_ratio=adapter_ratio
        ),
    )


def build_mobilesam_encoder(modalities: Mapping[str, int]) -> TinyViTImageEncoder:
    """Build MobileSAM's image encoder, including its ImageNet head.

    Args:
        modalities: Names of the modalities that own a controller, which is as narrow as possible.
    """
    return TinyViTImageEncoder(
        modalities, embed_dim=EMBED_DIM, expert_ratio=0.01, keep_classifier=True
    )


def image_encoder_of(names: Collection[str]) -> Literal["tiny_vit", "tic"]:
    """Return the image encoder of a network, given the names of its parameters."""
    is_tic = any(name.startswith("image_encoder.merges.") for name in names)
    return "tic" if is_tic else "tiny_vit"


def _default(given: str | None, modalities: Mapping[str, int]) -> str:
    """Return the default modality: the given one, else ct, else the first modality."""
    if given is not None:
        return given
    return "ct" if "ct" in modalities else next(iter(modalities), "")
