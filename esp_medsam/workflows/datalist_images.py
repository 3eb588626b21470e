"""Read the images and masks of a datalist item."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from esp_medsam.dicom import SeriesLabels, labels_series
from esp_medsam.errors import InputNotFoundError, OptionError
from esp_medsam.image import Image, modality_of
from esp_medsam.io.formats import files_of
from esp_medsam.io.modality import settle_modality
from esp_medsam.io.read import read
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.datalist import Item, Mask


WHITE = 127
"""In a picture's mask, values above this are the target."""

NEARLY_GRAY = 16
"""Maximum difference between the channels of a white mask: JPEG rounds."""

LABEL_TOLERANCE = 0.1
"""Maximum offset of labels from their image, as a fraction of a voxel's shortest side.

Other software rounds header values more than :data:`esp_medsam.grid.GRID_TOLERANCE` allows.
"""


def read_image(
    item: Item,
    table: ModalityTable,
    *,
    ct_input: str | None = None,
    frame: int | None = None,
) -> Image:
    """Return the image of an item, including pixels.

    Args:
        item: The item.
        table: Available modalities.
        ct_input: Meaning of CT values if the item does not state it.
        frame: Number of the volume in a 4-D file, from 0.

    Raises:
        EspMedSamError: As in :func:`esp_medsam.io.read` and :func:`esp_medsam.io.settle_modality`.
    """
    return settle_modality(
        read(item.image, frame=frame),
        item.modality,
        table,
        ct_input=item.ct_input or ct_input,
        ct_offset=item.offset,
    )


def content_files(path: str) -> tuple[Path, ...]:
    """Return the files that an image or mask is read from; for a folder, all files in it.

    Raises:
        InputNotFoundError: If the folder is empty.
        EspMedSamError: If a header that names another file cannot be read.
    """
    source = Path(path)
    if not source.is_dir():
        return files_of(source)
    files = tuple(sorted(file for file in source.iterdir() if file.is_file()))
    if not files:
        msg = f"{path} must hold a DICOM series; the folder is empty."
        raise InputNotFoundError(msg)
    return files


class MaskReader:
    """Reader of the masks of one image, which reads a file that targets share only once.

    Args:
        image: Record of the image, whose grid the masks must lie on.
        table: Available modalities.
    """

    def __init__(self, image: Image, table: ModalityTable) -> None:
        self.image = image
        self.table = table
        self._last: tuple[str, bool, Image] | None = None
        self._labels: SeriesLabels | None = None

    def of_target(self, item: Item, target: str) -> npt.NDArray[np.bool_] | None:
        """Return the mask of an item's target, ``(*spatial)``; None if the target is not annotated.

        Raises:
            EspMedSamError: As for a single mask.
        """
        if target in item.labels:
            return self.united(item.labels[target], target)
        return self.united(()) if target in item.absent else None

    def labeled(self, item: Item) -> npt.NDArray[np.bool_] | None:
        """Return the mask of an item's labeled pixels, ``(*spatial)``; None for all.

        Raises:
            EspMedSamError: As for a single mask.
        """
        return ~self.united(item.unknown) if item.unknown else None

    def united(self, masks: Iterable[Mask], target: str | None = None) -> npt.NDArray[np.bool_]:
        """Return the union of the masks of one target, or of unknown pixels, ``(*spatial)``.

        Raises:
            EspMedSamError: As for a single mask.
        """
        union = np.zeros(self.image.grid.shape, dtype=np.bool_)
        for mask in masks:
            union |= self(mask, target)
        return union

    def __call__(self, mask: Mask, target: str | None = None) -> npt.NDArray[np.bool_]:
        """Return a mask as a bool array, ``(*spatial)``.

        Without values, the mask is white in a picture and nonzero in a volume, and color is not
        allowed. With values, a palette picture is compared by its indices, not its colors. For
        DICOM-SEG and RT Structure Sets see :class:`~esp_medsam.dicom.SeriesLabels`.

        Args:
            mask: The mask.
            target: Name of its target; None for unknown pixels.

        Raises:
            OptionError: If the mask is not on its image's grid, is a picture of 0 and 1 instead of
                white, or is in color; if its names or values are not in its file.
            EspMedSamError: If the mask cannot be read.
        """
        if labels_series(mask.path):
            return self._of_series(mask, target)
        if mask.names is not None:
            msg = f"names must refer to a DICOM-SEG or RT Structure Set; {mask.path} is neither. "
            msg += "State values."
            raise OptionError(msg)
        stored = self.stored(mask)
        assert stored.pixels is not None, "just read"
        if mask.values is not None:
            found: npt.NDArray[np.bool_] = np.isin(stored.pixels[0], mask.values)
            return found
        least = 0 if stored.grid.affine is not None else WHITE
        if 0 < stored.pixels.max() <= least:
            msg = (
                f"labels must be white where the target is if they are pictures; {mask.path} "
                f"reaches only {stored.pixels.max()} of 255. If it is a label map, state its "
                "values."
            )
            raise OptionError(msg)
        foreground: npt.NDArray[np.bool_] = stored.pixels[0] > least
        return foreground

    def _of_series(self, mask: Mask, target: str | None) -> npt.NDArray[np.bool_]:
        if self._labels is None or self._labels.path != mask.path:
            self._labels = SeriesLabels(mask.path, self.image)
        targets = {one.name: one for one in self.table[modality_of(self.image)].targets}
        meant = None if target is None else targets[target]
        return self._labels.mask(values=mask.values, names=mask.names, target=meant)

    def stored(self, mask: Mask) -> Image:
        """Return a mask's file with its stored values, after checking that it is on the grid.

        Raises:
            OptionError: If the mask is not on the grid, or is in color.
            EspMedSamError: If the file cannot be read.
        """
        indices = mask.values is not None
        if self._last is None or self._last[:2] != (mask.path, indices):
            stored = read(mask.path, indices=indices)
            self._check_grid(stored, mask.path)
            self._last = mask.path, indices, _without_color(stored, 0 if indices else NEARLY_GRAY)
        return self._last[2]

    def _check_grid(self, mask: Image, path: str) -> None:
        image = self.image
        if mask.grid.shape != image.grid.shape:
            msg = f"labels must lie on their image's grid, {image.grid.shape}; {path} is "
            msg += f"{mask.grid.shape}."
            raise OptionError(msg)
        if mask.grid.affine is None or image.grid.affine is None:
            return
        corners = np.array(list(product(*((0, side - 1) for side in mask.grid.shape))))
        difference = mask.grid.affine - image.grid.affine
        moved = np.abs(corners @ difference[:3, :3].T + difference[:3, 3]).max()
        if not moved <= LABEL_TOLERANCE * min(image.grid.spacing or (1.0,)):  # NaN neither
            msg = f"labels must lie where their image does; {path} is {moved:.3g} mm off."
            raise OptionError(msg)


def _without_color(mask: Image, tolerance: int) -> Image:
    """Return a mask whose channels agree; gray stored as color is allowed."""
    assert mask.pixels is not None, "just read"
    if len(mask.pixels) > 1 and np.ptp(mask.pixels, axis=0).max() > tolerance:
        msg = f"labels must be gray pictures, or have a palette and values; {mask.path} is "
        raise OptionError(msg + "in color. Save it with one value per color.")
    return mask
