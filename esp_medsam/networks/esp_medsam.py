"""The whole network: one encoder for all modalities, generated prompts, one query per target."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.networks.layers import covering
from esp_medsam.networks.modality_controller import route
from esp_medsam.networks.prompt_generator import SelfPatchPromptGenerator


ABSENT_LOGIT = -1e4
"""Logit of rows that an image's modality does not have; finite to avoid NaN when resizing."""


class Encoded(NamedTuple):
    """Output of one encoder pass, from which any number of targets can be decoded.

    Attributes:
        image_embedding: ``(B, 256, h, w)``, two cells per 32 rows and columns, rounded up.
        pyramid: The encoder's features at strides 2, 4 and 8; empty if it has none.
        full_res: Full-resolution features, ``(B, C, H, W)``; C is 0 without that path.
    """

    image_embedding: Tensor
    pyramid: list[Tensor]
    full_res: Tensor


class Prediction(NamedTuple):
    """Output of the network for each (image, target); read it by name, as fields may be appended.

    Attributes:
        low_res_logits: Mask logits, ``(B, T, H / s, W / s)``: s is 1 with the high-resolution path
            or if a side is not a multiple of 32, else 4 as released.
        patch_logits: Logits of "this 32 x 32 patch holds the target", ``(B, T, h / 2, w / 2)``.
        image_embedding: ``(B, 256, h, w)``, see :class:`Encoded`.
        presence_logits: Logits of "this image holds the target", ``(B, T)`` float32; ``(B, 0)`` for
            networks without presence heads.
    """

    low_res_logits: Tensor
    patch_logits: Tensor
    image_embedding: Tensor
    presence_logits: Tensor


class ESPMedSAM(nn.Module):
    """Network that segments images of several modalities without prompts.

    ``modality`` is always a tensor of modality indices, ``(B,)``, mixed or not, or None for
    ``default_modality``. With None, the number of targets T is constant, as needed for exports.
    With a tensor, T is the largest number of targets of any modality in the batch, and rows
    beyond an image's own targets hold ``ABSENT_LOGIT``. An index that the network does not have
    raises an IndexError on the CPU; callers compare with :attr:`modalities` first.

    Args:
        image_encoder: Maps image and route to image embedding and pyramid.
        position_encoding: Maps grid size to positional encoding.
        prompt_generator: Predicts and embeds patch prompts.
        modality_query: Holds the decoder's tokens.
        mask_decoder: Decodes pairs of image and target.
        high_resolution: Fuses full-resolution features, or None.
        high_resolution_head: Turns decoded tokens into weights for these features, or None.
        target_adapters: Adapts the decoder's input to single targets, or None.
        presence: Predicts from image embedding and query numbers which targets exist, or None.
        modalities: Index of each modality of the network, in the order of its controllers.
        targets: Target names of each modality that has queries, in the order of the queries.
        default_modality: Modality meant by ``modality`` None; may be set later.

    Raises:
        ValueError: If ``default_modality`` is not in ``modalities``, or a modality has no targets.

    Reference:
        Xu et al., "ESP-MedSAM", arXiv:2407.14153; "De-LightSAM" in its later versions.
    """

    position_table: Tensor
    query_table: Tensor

    def __init__(
        self,
        *,
        image_encoder: nn.Module,
        position_encoding: nn.Module,
        prompt_generator: SelfPatchPromptGenerator,
        modality_query: nn.Module,
        mask_decoder: nn.Module,
        high_resolution: nn.Module | None,
        high_resolution_head: nn.Module | None,
        presence: nn.Module | None = None,
        target_adapters: nn.Module | None = None,
        modalities: Mapping[str, int],
        targets: Mapping[str, Sequence[str]],
        default_modality: str,
    ) -> None:
        super().__init__()
        _check_names(modalities, targets, default_modality)
        self.image_encoder = image_encoder
        self.position_encoding = position_encoding
        self.prompt_generator = prompt_generator
        self.modality_query = modality_query
        self.mask_decoder = mask_decoder
        self.high_resolution = high_resolution
        self.high_resolution_head = high_resolution_head
        self.presence = presence
        self.target_adapters = target_adapters
        self.modalities = dict(modalities)
        self.targets = {name: list(targets[name]) for name in modalities}
        self.places = {name: place for place, name in enumerate(modalities)}
        self.default_modality = default_modality
        self.absent_logit = ABSENT_LOGIT  # TorchScript sees attributes, not globals
        # A modality's index maps to its controller's place, and the place to its query numbers.
        # Missing modalities map out of range, so that they raise an error instead of a result.
        position_table = torch.full((max(modalities.values()) + 1,), len(modalities))
        position_table[list(modalities.values())] = torch.arange(len(modalities))
        self.register_buffer("position_table", position_table, persistent=False)
        self.register_buffer("query_table", _query_table(modalities, targets), persistent=False)

    @torch.jit.export
    def encode(self, image: Tensor, modality: Tensor | None) -> Encoded:
        """Encode images, each with its modality's controllers.

        Args:
            image: ``(B, 3, H, W)``, normalized; any H and W. It is padded with 0 up to the next
                multiples of 32.
            modality: Modality index of each image, ``(B,)``, or None for the default.

        Returns:
            Embedding, pyramid and full-resolution features.

        Raises:
            ValueError: If ``modality`` does not have B indices.
        """
        if modality is not None and modality.shape[0] != image.shape[0]:
            given, images = modality.shape[0], image.shape[0]
            msg = f"modality must hold one index per image; got {given} for {images}."
            raise ValueError(msg)
        place = None if modality is None else self.position_table[modality]
        batch_route = route(self.places[self.default_modality], place, len(self.places))
        features = self.image_encoder(image, batch_route)
        embedding = features.image_embedding
        if self.high_resolution is not None:
            H, W = image.shape[-2], image.shape[-1]
            whole = covering(image, H, W, 1)
            full_res = self.high_resolution(whole, embedding, features.pyramid)[..., :H, :W]
        else:
            full_res = image[:, :0]
        return Encoded(embedding, features.pyramid, full_res)

    def queries(self, batch: int, modality: Tensor | None, targets: list[int] | None) -> Tensor:
        """Return the query number of each row of the result, ``(B, T)``; -1 if absent."""
        if modality is None:
            own = self.query_table[self.places[self.default_modality]][None].expand(batch, -1)
            count = len(self.targets[self.default_modality])
        else:
            own = self.query_table[self.position_table[modality]]
            count = int((own >= 0).sum(1).max().item())
        if targets is None:
            return own[:, :count]
        if len(targets) == 0 or min(targets) < 0 or max(targets) >= count:
            msg = f"targets must name at least one index in 0..{count - 1}; got {targets}."
            raise ValueError(msg)
        chosen = own.index_select(1, torch.tensor(targets, device=own.device))
        if modality is not None and bool((chosen < 0).any().item()):
            msg = "targets must be left out for batches of several modalities."
            raise ValueError(msg)
        return chosen

    @torch.jit.export
    def decode(
        self,
        encoded: Encoded,
        modality: Tensor | None,
        targets: list[int] | None,
        patch_prompt: Tensor | None,
    ) -> Prediction:
        """Decode the targets of each image, each target alone.

        Args:
            encoded: Result of :meth:`encode` for the same ``modality``.
            modality: Modality index of each image, ``(B,)``, or None for the default.
            targets: Places in the modality's list of targets, for batches of one modality; None
                for all.
            patch_prompt: 0 or 1 float, ``(B, T, h / 2, w / 2)``, instead of the generated prompt;
                NaN where that stays. None leaves all of it.

        Returns:
            Mask, patch and presence logits of the T targets.

        Raises:
            ValueError: If a place in ``targets`` does not exist.
        """
        query_BT = self.queries(encoded.image_embedding.shape[0], modality, targets)
        drawn_BT = None if modality is None else query_BT >= 0
        return self._decode(encoded, query_BT, drawn_BT, patch_prompt)

    def _decode(
        self,
        encoded: Encoded,
        query_BT: Tensor,
        drawn_BT: Tensor | None,
        patch_prompt: Tensor | None,
    ) -> Prediction:
        """Return a prediction for queries, with masks for the drawn ones only; None draws all."""
        embedding = encoded.image_embedding
        B, T = query_BT.shape
        query = query_BT.reshape(-1)
        patch_logits = self.prompt_generator.patch_logits(embedding, query_BT.clamp(min=0))
        generated = self.prompt_generator.patch_prompt(patch_logits)
        if patch_prompt is None:
            patch_prompt = generated
        else:
            patch_prompt = torch.where(patch_prompt.isnan(), generated, patch_prompt)
        if drawn_BT is None:
            pair = torch.arange(B * T, device=query.device)
        else:
            pair = torch.nonzero(drawn_BT.reshape(-1)).squeeze(1)
            absent = query_BT[:, :, None, None] < 0
            patch_logits = patch_logits.masked_fill(absent, self.absent_logit)
        low_res, token = self._decode_pairs(embedding, patch_prompt, pair, query[pair], T)
        h, w = low_res.shape[1], low_res.shape[2]
        logits = low_res.new_full([B * T, h, w], self.absent_logit)
        logits = logits.index_copy(0, pair, low_res).view(B, T, h, w)
        H, W = encoded.full_res.shape[-2], encoded.full_res.shape[-1]
        whole = [16 * embedding.shape[-2], 16 * embedding.shape[-1]]
        if self.high_resolution_head is not None or whole != [H, W]:
            logits = F.interpolate(logits, size=whole, mode="bilinear", align_corners=False)
            logits = logits[..., :H, :W]
        if self.high_resolution_head is not None:
            logits = logits + self._full_res_logits(encoded.full_res, token, pair, query[pair], T)
        presence_logits = self._presence_logits(embedding, query_BT)
        return Prediction(logits, patch_logits, embedding, presence_logits)

    def _presence_logits(self, embedding: Tensor, query: Tensor) -> Tensor:
        """Return presence logits, ``(B, T)``, or ``(B, 0)`` without presence heads."""
        if self.presence is None:
            return embedding[:, :0, 0, 0]
        logits: Tensor = self.presence(embedding, query.clamp(min=0))
        return logits.masked_fill(query < 0, self.absent_logit)

    def _decode_pairs(
        self, embedding: Tensor, patch_prompt: Tensor, pair: Tensor, query: Tensor, T: int
    ) -> tuple[Tensor, Tensor]:
        """Return low-resolution logits, ``(P, 4 h, 4 w)``, and tokens, ``(P, D)``, of the pairs."""
        image_pe = self.position_encoding(embedding.shape[-2], embedding.shape[-1])
        prompt = patch_prompt.to(embedding.dtype).flatten(0, 1).index_select(0, pair)[:, None]
        image = torch.div(pair, T, rounding_mode="floor")
        source = embedding.index_select(0, image) + self.prompt_generator(prompt)
        if self.target_adapters is not None:
            source = self.target_adapters(source, query)
        tokens, place = self.modality_query(query)
        logits, token = self.mask_decoder(source, image_pe, tokens, place, query)
        return logits, token

    def _full_res_logits(
        self, full_res: Tensor, token: Tensor, pair: Tensor, query: Tensor, T: int
    ) -> Tensor:
        """Return logits from the full-resolution features, ``(B, T, H, W)``; 0 in absent rows."""
        B, C, H, W = full_res.shape
        assert self.high_resolution_head is not None
        weights = self.high_resolution_head(token, query).to(full_res.dtype)
        spread = torch.zeros([B * T, C], dtype=weights.dtype, device=weights.device)
        spread = spread.index_copy(0, pair, weights).view(B, T, C)
        return (spread @ full_res.flatten(2)).view(B, T, H, W)

    @torch.jit.export
    def predict(
        self,
        image: Tensor,
        modality: Tensor | None = None,
        targets: list[int] | None = None,
        patch_prompt: Tensor | None = None,
    ) -> Prediction:
        """Encode and decode; arguments and errors as in :meth:`encode` and :meth:`decode`."""
        return self.decode(self.encode(image, modality), modality, targets, patch_prompt)

    def predict_drawn(
        self,
        image: Tensor,
        modality: Tensor,
        drawn: Tensor,
        patch_prompt: Tensor | None = None,
    ) -> Prediction:
        """Encode, and decode the masks of some targets only, which takes less time.

        Args:
            image: As in :meth:`encode`.
            modality: Modality index of each image, ``(B,)``.
            drawn: Targets whose masks to draw, bool, ``(B, N)``; columns beyond those of the
                prediction are ignored.
            patch_prompt: As in :meth:`decode`, ``(B, N, h / 2, w / 2)``.

        Returns:
            Patch and presence logits of all T targets; mask logits of targets that are not drawn
            mean an empty mask.
        """
        query_BT = self.queries(len(image), modality, None)
        drawn_BT = (query_BT >= 0) & drawn[:, : query_BT.shape[1]]
        prompt_BT = None if patch_prompt is None else patch_prompt[:, : query_BT.shape[1]]
        return self._decode(self.encode(image, modality), query_BT, drawn_BT, prompt_BT)

    def forward(self, image: Tensor, modality: Tensor | None = None) -> Tensor:
        """Return the mask logits of all targets at input size, ``(B, T, H, W)``.

        Args:
            image: ``(B, 3, H, W)``, normalized; any H and W.
            modality: Modality index of each image, ``(B,)``, or None for the default.
        """
        logits = self.predict(image, modality, None, None).low_res_logits
        if self.high_resolution is not None:
            return logits
        return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)


def _check_names(
    modalities: Mapping[str, int], targets: Mapping[str, Sequence[str]], default_modality: str
) -> None:
    if default_modality not in modalities:
        msg = f"default_modality must be one of {', '.join(modalities)}; got {default_modality!r}."
        raise ValueError(msg)
    without = [name for name in modalities if not targets.get(name)]
    if without:
        msg = f"targets must name at least one target of {', '.join(without)}."
        raise ValueError(msg)


def _query_table(modalities: Mapping[str, int], targets: Mapping[str, Sequence[str]]) -> Tensor:
    """Return the query numbers of each modality of the network, in rows padded with -1."""
    table = torch.full((len(modalities), max(len(targets[name]) for name in modalities)), -1)
    first = 0
    for name, names in targets.items():
        if name in modalities:
            place = list(modalities).index(name)
            table[place, : len(names)] = torch.arange(first, first + len(names))
        first += len(names)
    return table
