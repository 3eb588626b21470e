"""Natural images from folders or tar files, to distill the shared encoder."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch

from esp_medsam.errors import CorruptFileError, OptionError, not_found
from esp_medsam.inferers.resizing import content_size
from esp_medsam.io.formats import RASTER_SUFFIXES
from esp_medsam.modality import ImageEncoderName, ModalityTable
from esp_medsam.networks import ESPMedSAM, build_product
from esp_medsam.networks.modality_controller import ModalityController
from esp_medsam.workflows.training_slices import TrainingSlice


NATURAL = "natural"
"""Modality of non-medical images; it exists only while the shared encoder is trained."""

SILENT = -1e4
"""Attention logit of a token that takes no part; finite in half precision."""


logger = logging.getLogger(__name__)

_MOST_DAMAGED = 20
"""Number of undecodable pictures in a row that ends a run."""


class Picture(NamedTuple):
    """Location of a picture's bytes.

    Attributes:
        path: The picture's file, or the tar file that holds it.
        name: Name of the picture in messages.
        start: Offset of its first byte in the file.
        size: Its number of bytes.
        modified: Modification time of the file, in nanoseconds.
    """

    path: str
    name: str
    start: int
    size: int
    modified: int


class Pictures:
    """Pictures as slices without targets, read on access.

    Args:
        pictures: Locations of the pictures.
        input_size: ``(H, W)`` that the pictures are scaled to fit.
    """

    def __init__(self, pictures: Sequence[Picture], input_size: tuple[int, int]) -> None:
        self.pictures = list(pictures)
        self.input_size = input_size

    @property
    def modalities(self) -> list[str]:
        """Modality of each picture."""
        return [NATURAL] * len(self.pictures)

    @property
    def datasets(self) -> list[str]:
        """Set of each picture."""
        return [NATURAL] * len(self.pictures)

    @property
    def names(self) -> list[str]:
        """Name of each picture in messages."""
        return [picture.name for picture in self.pictures]

    def stamp(self, index: int) -> str:
        """Return a text that changes when a picture's file does, without reading it."""
        picture = self.pictures[index]
        return f"{picture.name} {picture.start} {picture.size} {picture.modified}"

    def __len__(self) -> int:
        return len(self.pictures)

    def __contains__(self, key: object) -> bool:
        return False

    def __getitem__(self, index: int) -> TrainingSlice:
        """Return a picture; if it cannot be decoded, warn and return one after it.

        Raises:
            CorruptFileError: If so many pictures in a row fail that something else is wrong.
        """
        *ahead, last = (
            self.pictures[(index + step) % len(self.pictures)] for step in range(_MOST_DAMAGED)
        )
        for picture in ahead:
            try:
                return self._read(picture)
            except CorruptFileError as error:
                logger.warning("%s The next picture is used instead.", error)
        return self._read(last)

    def _read(self, picture: Picture) -> TrainingSlice:
        try:
            with Path(picture.path).open("rb") as file:
                file.seek(picture.start)
                encoded = PIL.Image.open(io.BytesIO(file.read(picture.size)))
                pixels = PIL.ImageOps.exif_transpose(encoded).convert("RGB")
        except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
            reason = "not an image" if isinstance(error, PIL.UnidentifiedImageError) else error
            msg = f"{picture.name} must be a picture that can be decoded; got: {reason}."
            raise CorruptFileError(msg) from error
        height, width = content_size((pixels.height, pixels.width), None, self.input_size, "fit")
        scaled = pixels.resize((width, height), PIL.Image.Resampling.BILINEAR)
        image = torch.from_numpy(np.array(scaled)).permute(2, 0, 1).contiguous()
        nothing = torch.zeros((1, height, width), dtype=torch.uint8)
        known = torch.zeros(1, dtype=torch.bool)
        return TrainingSlice(image, nothing, nothing, known, NATURAL, NATURAL)


def image_slices(
    images: str | os.PathLike[str],
    input_size: tuple[int, int],
    validation_share: float,
    seed: int,
) -> dict[str, Pictures]:
    """Return pictures as the sections ``training`` and ``validation``.

    The validation pictures depend only on the names and the seed.

    Args:
        images: Folder of pictures and tar files, searched recursively, or one tar file.
        input_size: ``(H, W)`` that pictures are scaled to fit.
        validation_share: Share used for validation, in (0, 1); it gets at least one picture.
        seed: Seed of the draw.

    Raises:
        OptionError: If the share lies outside (0, 1), or there are fewer than two pictures.
        InputNotFoundError: If there is no such folder or file.
        CorruptFileError: If a tar file cannot be read.
    """
    if not 0.0 < validation_share < 1.0:
        msg = f"validation_share must lie between 0 and 1; got {validation_share}."
        raise OptionError(msg)
    found = list(_pictures(Path(images)))
    if len(found) < 2:
        msg = f"images must hold at least two pictures ({', '.join(RASTER_SUFFIXES)}), in folders "
        raise OptionError(msg + f"or tar files; {images} holds {len(found)}.")
    drawn = sorted(found, key=lambda one: hashlib.sha256(f"{seed} {one.name}".encode()).digest())
    count = max(1, int(len(found) * validation_share))
    validated = set(drawn[:count])
    return {
        "training": Pictures([one for one in found if one not in validated], input_size),
        "validation": Pictures([one for one in found if one in validated], input_size),
    }


def _pictures(images: Path) -> Iterator[Picture]:
    """Yield the pictures of a folder or tar file, in the order of their names."""
    if images.is_file():
        yield from _of_tar(images, images.name)
        return
    if not images.is_dir():
        raise not_found(images, "folder or tar file", argument="images")
    for path in sorted(path for path in images.rglob("*") if path.is_file()):
        name = path.relative_to(images).as_posix()
        if path.suffix.lower() == ".tar":
            yield from _of_tar(path, name)
        elif path.suffix.lower() in RASTER_SUFFIXES:
            file = path.stat()
            yield Picture(str(path), name, 0, file.st_size, file.st_mtime_ns)


def _of_tar(path: Path, name: str) -> Iterator[Picture]:
    try:
        modified = path.stat().st_mtime_ns
        with tarfile.open(path, "r:") as archive:  # uncompressed: pictures are read in place
            for member in archive:
                if member.isfile() and Path(member.name).suffix.lower() in RASTER_SUFFIXES:
                    place = f"{name}/{member.name}"
                    yield Picture(str(path), place, member.offset_data, member.size, modified)
    except (tarfile.TarError, OSError) as error:
        msg = f"images must be readable, uncompressed tar files; {path} is not: {error}."
        raise CorruptFileError(msg) from error


def natural_table(image_encoder: ImageEncoderName = "tiny_vit") -> ModalityTable:
    """Return a table of one modality, natural images, with one target that is never trained."""
    code = {"value": "260787004", "scheme": "SCT", "meaning": "Physical object"}
    target = {"label": 1, "category": code, "type": code, "color": [230, 160, 0]}
    row = {"index": 8, "targets": {"object": target}}
    content = {"modalities": {NATURAL: row}, "image_encoder": image_encoder}
    return ModalityTable.of(content, "the table of natural images")


def encoder_alone(table: ModalityTable) -> ESPMedSAM:
    """Return the product's network with controllers that add nothing and do not train."""
    return silence_controllers(
        build_product(table.indices, table.target_names, image_encoder=table.image_encoder)
    )


def silence_controllers(network: ESPMedSAM) -> ESPMedSAM:
    """Return the network after changing its controllers to add nothing and not train."""
    for controller in network.modules():
        if isinstance(controller, ModalityController):
            torch.nn.init.constant_(controller.bias, SILENT)
            torch.nn.init.zeros_(controller.expert.fc2.weight)
            torch.nn.init.zeros_(controller.expert.fc2.bias)
            controller.requires_grad_(False)
    return network
