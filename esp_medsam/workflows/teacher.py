"""Teachers to distill from: SAM, MobileSAM, a medical teacher, or a network of this package.

Each is one frozen module that takes plain RGB and brings it to the size, padding and normalization
that it was trained with. Nothing else imports segment_anything.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from esp_medsam.errors import CheckpointError, OptionError
from esp_medsam.inferers.resizing import content_size
from esp_medsam.io.weights_record import check_hash, read_weights_record
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import ESPMedSAM, build_product
from esp_medsam.networks.builders import (
    build_mobilesam_encoder,
    build_teacher,
    image_encoder_of,
)
from esp_medsam.networks.checkpoints import from_mobilesam, held_modalities, load_checkpoint
from esp_medsam.networks.modality_controller import route
from esp_medsam.networks.sam_checkpoint import from_sam
from esp_medsam.networks.state_dicts import load_into
from esp_medsam.workflows.weights import check_weights, load_network, network_of_table


TeacherKind = Literal["sam", "mobilesam", "medical", "network"]

SAM_SIZE = (1024, 1024)
SAM_MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
SAM_STD = (58.395 / 255, 57.12 / 255, 57.375 / 255)
"""How SAM and MobileSAM take images: longest side 1024, normalized, zero-padded to a square."""


class TeacherSays(NamedTuple):
    """What a teacher says of images; its grids cover them edge to edge.

    Attributes:
        embedding: ``(B, 256, h, w)``.
        logits: Mask logits, ``(B, T, h', w')``; None of a teacher that was not asked for masks.
    """

    embedding: Tensor
    logits: Tensor | None = None


class Teacher(nn.Module):
    """A frozen network that takes images as it was trained to.

    Args:
        network: From normalized images at ``input_size`` and modality indices, ``(B,)``, or None
            to an embedding, ``(B, 256, h, w)``, and masks if it has any.
        input_size: ``(H, W)`` that images are scaled to fit, then padded to at the right and
            bottom.
        pixel_mean: Mean per channel, of values in 0..1.
        pixel_std: Standard deviation per channel.
        name: What it is, for the identity.

    Attributes:
        identity: SHA-256 of its weights and of how it takes images.
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

    @torch.no_grad()
    def forward(self, image: Tensor, modality: Tensor | None = None) -> TeacherSays:
        """Return embedding, and mask logits of a teacher that has them.

        Args:
            image: RGB in 0..1, ``(B, 3, H, W)``, of any size.
            modality: Modality index of each image, ``(B,)``, for teachers that go by it.
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
    """Return the part of a grid that covers the image, without that of the padding.

    Where the image ends within a cell the grid is sampled anew, bilinearly, so that the whole of
    the result is the whole of the image.

    Args:
        grid_of_view: ``(B, C, h, w)``, of the padded view.
        size: ``(H, W)`` of the image in the view, top left.
        input_size: ``(H, W)`` of the view.
    """
    grid = grid_of_view.shape[-2:]
    # In cells, exactly: sides times cells is a whole number, and so is what they are divided by.
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


class _OfAnyModality(nn.Module):
    """An encoder that takes images alone."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor, modality: Tensor | None) -> TeacherSays:
        """Return the encoder's embedding of ``image``."""
        del modality
        return TeacherSays(self.encoder(image))


class _OfItsModality(nn.Module):
    """The encoder of a network of this package; the rest of the network is let go."""

    def __init__(self, network: ESPMedSAM) -> None:
        super().__init__()
        self.encoder = network.image_encoder
        self.places = dict(network.places)
        self.default = network.places[network.default_modality]
        self.register_buffer("position_table", network.position_table, persistent=False)

    position_table: Tensor

    def forward(self, image: Tensor, modality: Tensor | None) -> TeacherSays:
        """Return the embedding of ``image`` by the controllers of its modality."""
        place = None if modality is None else self._places(modality)
        features = self.encoder(image, route(self.default, place, len(self.places)))
        return TeacherSays(features.image_embedding)

    def _places(self, modality: Tensor) -> Tensor:
        table = self.position_table
        place = table[modality.clamp(max=len(table) - 1)]
        unknown = (modality >= len(table)) | (place == len(self.places))
        if bool(unknown.any()):
            held = ", ".join(self.places)
            indices = sorted(set(modality[unknown].tolist()))
            msg = (
                f"teacher must hold the modalities of the images; it holds {held}, and got indices "
                f"{indices}. Take them out of the datalist, or use another teacher."
            )
            raise OptionError(msg)
        return place


class _WithMasks(nn.Module):
    """A whole network of this package."""

    def __init__(self, network: ESPMedSAM) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, modality: Tensor | None) -> TeacherSays:
        """Return embedding and mask logits of ``image`` for the targets of its modality."""
        prediction = self.network.predict(image, modality)
        return TeacherSays(prediction.image_embedding, prediction.low_res_logits)


class _MobileSAMEncoder(nn.Module):
    """MobileSAM's encoder: ours, with one controller that adds nothing."""

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


def load_teacher(
    kind: TeacherKind,
    weights: str | os.PathLike[str],
    *,
    table: ModalityTable,
    input_size: Sequence[int],
    pixel_mean: Sequence[float],
    pixel_std: Sequence[float],
    masks: bool = False,
    student_starts_from: str | None = None,
) -> Teacher:
    """Return a frozen teacher.

    Args:
        kind: "sam", an official checkpoint of SAM or one derived from it; "mobilesam", the official
            file; "medical", what ``train_teacher.yaml`` left; "network", what ``train.yaml`` left.
        weights: Its file.
        table: Modalities and targets of "medical" and "network".
        input_size: ``(H, W)`` that a "network" was trained with.
        pixel_mean: Its mean per channel.
        pixel_std: Its standard deviation per channel.
        masks: Whether it is asked for masks too. Then it must be "medical" or "network" and have
            exactly the modalities and targets of ``table``; without, a "network" may have others.
        student_starts_from: Weights that the student starts from, if any.

    Raises:
        OptionError: If MobileSAM is to teach a student that starts from weights, or
            segment_anything is needed and not installed.
        WeightsNotFoundError: If there is no such file.
        CheckpointError: If it is not what ``kind`` says.
    """
    if kind == "mobilesam" and student_starts_from:
        msg = (
            f"pretrained must be empty with MobileSAM as the teacher; got {student_starts_from}. "
            "What starts from MobileSAM's encoder learns nothing from it: use another teacher."
        )
        raise OptionError(msg)
    check_weights(weights, "teacher_weights")
    source = os.fspath(weights)
    network: nn.Module
    if kind == "network":
        if masks:
            network = _WithMasks(load_network(_network_with_masks_like(source, table), source))
        else:
            network = _OfItsModality(_network_like(source, table))
    elif kind == "medical":
        medical = load_network(_medical_like(source, table), source)
        network = _WithMasks(medical) if masks else _OfItsModality(medical)
    elif kind == "mobilesam":
        network = _MobileSAMEncoder(from_mobilesam(load_checkpoint(source), source=source))
    else:
        network = _OfAnyModality(load_sam_encoder(source))
    if kind != "network":
        input_size, pixel_mean, pixel_std = SAM_SIZE, SAM_MEAN, SAM_STD
    # What masks mean is told by no parameter's name.
    rows = f" {json.dumps(table.target_names)} {table.prompt}" if masks else ""
    return Teacher(
        network,
        input_size=input_size,
        pixel_mean=pixel_mean,
        pixel_std=pixel_std,
        name=f"{kind}{rows}",
    )


def load_sam_encoder(weights: str | os.PathLike[str]) -> nn.Module:
    """Return segment_anything's image encoder with the weights of a checkpoint of SAM.

    Args:
        weights: An official checkpoint, ViT-B, L or H, or one derived from it.

    Raises:
        OptionError: If segment_anything is not installed.
        WeightsNotFoundError: If there is no such file.
        CheckpointError: If it is no checkpoint of SAM.
    """
    check_weights(weights, "sam_weights")
    checkpoint = from_sam(load_checkpoint(weights), source=os.fspath(weights))
    encoder = sam_encoder(checkpoint.variant.name)
    load_into(encoder, checkpoint.state_dict, source=os.fspath(weights))
    return encoder


def sam_encoder(variant: str) -> nn.Module:
    """Return segment_anything's image encoder, freshly initialized.

    Args:
        variant: "vit_b", "vit_l" or "vit_h".

    Raises:
        OptionError: If segment_anything is not installed.
    """
    try:
        from segment_anything import sam_model_registry
    except ImportError as error:
        msg = (
            "teacher must be one that can be built; SAM needs the package segment-anything, and "
            f"importing it failed: {error}. Install it: pip install 'esp-medsam[teacher]'."
        )
        raise OptionError(msg) from error
    encoder: nn.Module = sam_model_registry[variant]().image_encoder
    return encoder


def build_medical_teacher(weights: str | os.PathLike[str], table: ModalityTable) -> ESPMedSAM:
    """Return a medical teacher to be trained, around the encoder of a checkpoint of SAM.

    Args:
        weights: See :func:`load_sam_encoder`.
        table: Modalities and targets.

    Raises:
        EspMedSamError: As of :func:`load_sam_encoder`.
    """
    return build_teacher(load_sam_encoder(weights), table.indices, table.target_names)


_MEDICAL = "image_encoder.encoder."


def _medical_like(weights: str, table: ModalityTable) -> ESPMedSAM:
    """Return a medical teacher of the size of weights."""
    encoder = {
        key.replace(_MEDICAL, "image_encoder.", 1): value
        for key, value in load_checkpoint(weights).items()
        if key.startswith(_MEDICAL)
    }
    variant = from_sam(encoder, source=weights).variant.name
    return build_teacher(sam_encoder(variant), table.indices, table.target_names)


def _network_with_masks_like(weights: str, table: ModalityTable) -> ESPMedSAM:
    """Return a network of a table's targets with the encoder and the heads that weights hold."""
    names = load_checkpoint(weights).keys()
    has_presence = any(name.startswith("presence.") for name in names)
    own = replace(table, image_encoder=image_encoder_of(names), presence=has_presence)
    return network_of_table(own)


def _network_like(weights: str, table: ModalityTable) -> ESPMedSAM:
    """Return a network with the image encoder that weights hold; the rest of it is fresh.

    A teacher's targets are its own: what a student's table says of them does not matter.
    """
    record = read_weights_record(weights)
    if record is not None:
        check_hash(weights, record)
    state_dict = load_checkpoint(weights)
    held = held_modalities(state_dict)
    if not held:
        msg = f"teacher_weights must hold controllers of modalities; {weights} holds none."
        raise CheckpointError(msg)
    free = count(max(table.indices.values()) + 1)
    modalities = {name: table.indices[name] if name in table else next(free) for name in held}
    targets = {name: ["any"] for name in held}
    network = build_product(modalities, targets, image_encoder=image_encoder_of(state_dict))
    prefix = "image_encoder."
    own = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
    load_into(network.image_encoder, own, source=weights)
    return network.float().eval()
