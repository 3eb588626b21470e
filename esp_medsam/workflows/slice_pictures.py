"""Pictures of validation slices: truth beside prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch import Tensor, nn

from esp_medsam.io.atomic import atomic_file, clear_temporaries
from esp_medsam.io.contour import outline
from esp_medsam.io.tile import png_bytes
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.distributed import is_first
from esp_medsam.workflows.training_data import SliceDataset


class SlicePictures:
    """Pictures of a dataset's slices with their truth and a network's prediction.

    Args:
        dataset: The slices, as validation views.
        network: Network that takes image and modality, such as a PredictForward.
        table: Modalities and the colors of their targets.
        pixel_mean: Mean per channel that the views were normalized with.
        pixel_std: Standard deviation per channel.
        device: Device of the network.
    """

    def __init__(
        self,
        dataset: SliceDataset,
        network: nn.Module,
        table: ModalityTable,
        *,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        device: str | torch.device,
    ) -> None:
        self.dataset = dataset
        self.network = network
        self.table = table
        self.device = device
        self.mean = torch.tensor(pixel_mean)[:, None, None]
        self.std = torch.tensor(pixel_std)[:, None, None]

    def samples(self) -> dict[str, int]:
        """Return the first slice with a target of each modality, or its first slice if none has.

        Returns:
            Positions in the dataset, by modality.
        """
        modalities = self.dataset.slices.modalities
        chosen: dict[str, int] = {}
        for name in dict.fromkeys(modalities):
            places = [place for place, other in enumerate(modalities) if other == name]
            holds = (place for place in places if self.dataset.slices[place].label.any())
            chosen[name] = next(holds, places[0])
        return chosen

    def draw(self, place: int) -> PIL.Image.Image:
        """Return the picture of a slice: truth and prediction side by side on the input."""
        view = self.dataset[place]
        piece = self.dataset.slices[place]
        colors = [target.color for target in self.table[piece.modality].targets]
        found = self._masks(view)[: len(colors)]
        pixels = ((view["image"] * self.std + self.mean).clamp(0, 1) * 255).round()
        image = pixels.to(torch.uint8).permute(1, 2, 0).numpy()
        truth = view["label"][: len(colors)].numpy() > 0
        sides = [outline(image, zip(masks, colors, strict=False)) for masks in (truth, found)]
        return PIL.Image.fromarray(np.concatenate(sides, axis=1))

    def _masks(self, view: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
        was_training = self.network.training
        self.network.eval()
        with torch.no_grad():
            image = view["image"][None].to(self.device)
            modality = torch.tensor([view["modality"]], device=self.device)
            logits: Tensor = self.network(image, modality).low_res_logits.float()
        self.network.train(was_training)
        size = view["image"].shape[-2:]
        raised = nn.functional.interpolate(logits, size=size, mode="bilinear")
        masks: npt.NDArray[np.bool_] = (raised[0] > 0).cpu().numpy()
        return masks


class DrawSamples:
    """Handler that writes a picture of one slice per modality after each epoch, for inspection.

    Args:
        pictures: Draws the slices.
        folder: Folder for ``<modality>-<epoch>.png``.
    """

    def __init__(self, pictures: SlicePictures, folder: str | Path) -> None:
        self.pictures = pictures
        self.folder = Path(folder)
        self.places: dict[str, int] | None = None

    def attach(self, engine: SupervisedTrainer) -> None:
        """Register on the trainer."""
        if is_first():
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: SupervisedTrainer) -> None:
        """Write the pictures."""
        if self.places is None:
            self.places = self.pictures.samples()
        clear_temporaries(self.folder)
        for name, place in self.places.items():
            with atomic_file(self.folder / f"{name}-{engine.state.epoch:04d}.png") as file:
                file.write(png_bytes(self.pictures.draw(place)))
