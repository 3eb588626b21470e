"""A teacher's network: converts plain RGB to its training input and returns embeddings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from esp_medsam.inferers.resizing import content_size
from esp_medsam.networks import ESPMedSAM
from esp_medsam.networks.builders import build_mobilesam_encoder
from esp_medsam.networks.modality_controller import route


class TeacherSays(NamedTuple):
    """A teacher's output for images; its grids cover them edge to edge.

    Attributes:
        embedding: ``(B, 256, h, w)``.
        logits: Mask logits, ``(B, T, h', w')``; None if the teacher was not asked for masks.
    """

    embedding: Tensor
    logits: Tensor | None = None


class Teacher(nn.Module):
    """A frozen network that prepares images as in its training.

    Args:
        network: Maps normalized images at ``input_size`` and modality indices, ``(B,)``, or None
            to an embedding, ``(B, 256, h, w)``, and to masks if it has any.
        input_size: ``(H, W)`` that images are scaled to fit, then padded to at the right and
            bottom.
        pixel_mean: Mean per channel, for values in 0..1.
        pixel_std: Standard deviation per channel.
        name: Description of the teacher, for the identity.

    Attributes:
        identity: SHA-256 of the weights and the image settings.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        input_size: Sequence[int],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        name: str,
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        height, width = input_size
        self.input_size = (height, width)
        for key, value in (("mean", pixel_mean), ("std", pixel_std)):
            channels = torch.tensor(list(value), dtype=torch.float32)[:, None, None]
            self.register_buffer(key, channels, persistent=False)
        how = [name, *self.input_size, *pixel_mean, *pixel_std]
        self.identity = _hash(network, json.dumps(how))
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever the modules around it do."""
        del mode
        return super().train(False)

    @property
    def modalities(self) -> list[str] | None:
        """Names of the modalities that the teacher knows; None if it takes any image."""
        return getattr(self.network, "modalities", None)

    @torch.no_grad()
    def forward(self, image: Tensor, modality: Tensor | None = None) -> TeacherSays:
        """Return the embedding, and the mask logits if the teacher has them.

        Args:
            image: RGB in 0..1, ``(B, 3, H, W)``, of any size.
            modality: Modality index of each image, ``(B,)``, for teachers that depend on it.
        """
        height, width = image.shape[-2:]
        size = content_size((height, width), None, self.input_size, "fit")
        if size != (height, width):
            image = F.interpolate(
                image, size=size, mode="bilinear", align_corners=False, antialias=True
            )
        below, right = (whole - part for whole, part in zip(self.input_size, size, strict=True))
        view = F.pad((image - self.mean) / self.std, (0, right, 0, below))
        said: TeacherSays = self.network(view, modality)
        embedding, logits = (
            None if part is None else of_content(part.float(), size, self.input_size)
            for part in said
        )
        assert embedding is not None
        return TeacherSays(embedding, logits)


def of_content(grid_of_view: Tensor, size: tuple[int, int], input_size: tuple[int, int]) -> Tensor:
    """Return the part of a grid that covers the image, without the padding.

    If the image ends within a cell, the grid is resampled bilinearly, so that the result covers
    exactly the image.

    Args:
        grid_of_view: ``(B, C, h, w)``, of the padded view.
        size: ``(H, W)`` of the image in the view, top left.
        input_size: ``(H, W)`` of the view.
    """
    grid = grid_of_view.shape[-2:]
    # Integer arithmetic keeps the number of cells exact.
    whole = all(s * g % i == 0 for s, g, i in zip(size, grid, input_size, strict=True))
    cells = [-(-s * g // i) for s, g, i in zip(size, grid, input_size, strict=True)]
    if whole:
        return grid_of_view[..., : cells[0], : cells[1]]
    ends = [s / i for s, i in zip(size, input_size, strict=True)]
    places = [
        (torch.arange(n, device=grid_of_view.device) + 0.5) / n * end * 2 - 1
        for n, end in zip(cells, ends, strict=True)
    ]
    rows, columns = torch.meshgrid(*places, indexing="ij")
    sampled = torch.stack([columns, rows], dim=-1).to(grid_of_view.dtype)
    return F.grid_sample(
        grid_of_view,
        sampled.expand(len(grid_of_view), -1, -1, -1),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )


def _hash(module: nn.Module, how: str) -> str:
    digest = hashlib.sha256(how.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().flatten()
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()


class OfAnyModality(nn.Module):
    """An encoder that takes only images."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor, modality: Tensor | None) -> TeacherSays:
        """Return the encoder's embedding of ``image``."""
        del modality
        return TeacherSays(self.encoder(image))


class OfItsModality(nn.Module):
    """The encoder of a network of this package; the rest of the network is dropped."""

    def __init__(self, network: ESPMedSAM) -> None:
        super().__init__()
        self.encoder = network.image_encoder
        self.modalities = list(network.places)
        self.default = network.places[network.default_modality]
        self.register_buffer("position_table", network.position_table, persistent=False)

    modalities: list[str]
    position_table: Tensor

    def forward(self, image: Tensor, modality: Tensor | None) -> TeacherSays:
        """Return the embedding of ``image``, computed with its modality's controllers."""
        place = None if modality is None else self.position_table[modality]
        features = self.encoder(image, route(self.default, place, len(self.modalities)))
        return TeacherSays(features.image_embedding)


class WithMasks(nn.Module):
    """A complete network of this package."""

    def __init__(self, network: ESPMedSAM) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, modality: Tensor | None) -> TeacherSays:
        """Return the embedding and mask logits of ``image`` for its modality's targets."""
        prediction = self.network.predict(image, modality)
        return TeacherSays(prediction.image_embedding, prediction.low_res_logits)


class MobileSAMEncoder(nn.Module):
    """MobileSAM's encoder: this package's encoder with one controller that adds nothing."""

    def __init__(self, state_dict: dict[str, Tensor]) -> None:
        super().__init__()
        self.encoder = build_mobilesam_encoder({"none": 0})
        prefix = "image_encoder."
        own = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
        missing, unexpected = self.encoder.load_state_dict(own, strict=False)
        assert not unexpected
        assert all(".controllers." in name for name in missing)
        for name, parameter in self.encoder.named_parameters():
            if ".controllers." in name:
                is_bias_of_token = name.endswith("none.bias")
                parameter.data.fill_(-torch.inf if is_bias_of_token else 0.0)

    def forward(self, image: Tensor, modality: Tensor | None) -> TeacherSays:
        """Return the embedding of ``image``."""
        del modality
        return TeacherSays(self.encoder(image, route(0, None, 1)).image_embedding)
