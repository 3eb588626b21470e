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
"""Values of a picture's mask above this are the target."""

NEARLY_GRAY = 16
"""Most that channels of a white mask may differ by: JPEG rounds."""

LABEL_TOLERANCE = 0.1
"""Part of a voxel's shortest side that labels may lie off their image.

Other software rounds more in headers than :data:`esp_medsam.grid.GRID_TOLERANCE` allows.
"""


def read_image(
    item: Item,
    table: ModalityTable,
    *,
    ct_input: str | None = None,
    frame: int | None = None,
) -> Image:
    """Return the image of an item, pixels included.

    Args:
        item: The item.
        table: Modalities at hand.
        ct_input: What CT values are where the item does not say.
        frame: Which volume of a 4-D file, from 0.

    Raises:
        EspMedSamError: As :func:`esp_medsam.io.read` and :func:`esp_medsam.io.settle_modality`.
    """
    return settle_modality(
        read(item.image, frame=frame),
        item.modality,
        table,
        ct_input=item.ct_input or ct_input,
        ct_offset=item.offset,
    )


def content_files(path: str) -> tuple[Path, ...]:
    """Return the files that an image or mask of a datalist is read from; of a folder, all in it.

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
    """Read masks of one image; a file that several targets share is read once.

    Args:
        image: Record of the image, whose grid the masks must lie on.
        table: Modalities at hand.
    """

    def __init__(self, image: Image, table: ModalityTable) -> None:
        self.image = image
        self.table = table
        self._last: tuple[str, bool, Image] | None = None
        self._labels: SeriesLabels | None = None

    def of_target(self, item: Item, target: str) -> npt.NDArray[np.bool_] | None:
        """Return where an item has a target, ``(*spatial)``; None where nothing is known of it.

        Raises:
            EspMedSamError: As of a single mask.
        """
        if target in item.labels:
            return self.united(item.labels[target], target)
        return self.united(()) if target in item.absent else None

    def labeled(self, item: Item) -> npt.NDArray[np.bool_] | None:
        """Return at which pixels an item's masks say anything, ``(*spatial)``; None for all.

        Raises:
            EspMedSamError: As of a single mask.
        """
        return ~self.united(item.unknown) if item.unknown else None

    def united(self, masks: Iterable[Mask], target: str | None = None) -> npt.NDArray[np.bool_]:
        """Return the union of masks, of one target or of none, ``(*spatial)``.

        Raises:
            EspMedSamError: As of a single one.
        """
        union = np.zeros(self.image.grid.shape, dtype=np.bool_)
        for mask in masks:
            union |= self(mask, target)
        return union

    def __call__(self, mask: Mask, target: str | None = None) -> npt.NDArray[np.bool_]:
        """Return where a mask says that something is, ``(*spatial)``.

        Without values a picture's mask is white, a volume's is not 0, and neither is in color. With
        values a picture in a palette means its indices, not its colors. Of DICOM-SEG and RT
        Structure Sets see :class:`~esp_medsam.dicom.SeriesLabels`.

        Args:
            mask: The mask.
            target: Name of the target whose it is; None of unknown pixels.

        Raises:
            OptionError: If it is not on its image's grid, is a picture of 0 and 1 in place of
                white, or in colors; if what it means is not in its file.
            EspMedSamError: If it cannot be read.
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
        """Return a mask's file with the numbers it holds, once it is seen to lie on the grid.

        Raises:
            OptionError: If it does not, or is in colors.
            EspMedSamError: If it cannot be read.
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
        if moved > LABEL_TOLERANCE * min(image.grid.spacing or (1.0,)):
            msg = f"labels must lie where their image does; {path} is {moved:.3g} mm off."
            raise OptionError(msg)


def _without_color(mask: Image, tolerance: int) -> Image:
    """Return a mask whose channels are alike; gray that is stored as color is what it is."""
    assert mask.pixels is not None, "just read"
    if len(mask.pixels) > 1 and np.ptp(mask.pixels, axis=0).max() > tolerance:
        msg = f"labels must be gray pictures, or have a palette and values; {mask.path} is "
        raise OptionError(msg + "in color. Save it with one value per color.")
    return mask
