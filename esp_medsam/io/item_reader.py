"""Read one item of a run as requested, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from esp_medsam.errors import check_one_of
from esp_medsam.image import Image
from esp_medsam.io.budget import beside_image
from esp_medsam.io.ct_units import CT_INPUTS
from esp_medsam.io.item import Item
from esp_medsam.io.modality import settle_modality
from esp_medsam.io.read import read
from esp_medsam.memory import NOTHING, Beside
from esp_medsam.modality import ModalityTable


@dataclass(frozen=True, kw_only=True)
class ItemReader:
    """Reader of items, one by one, with the same options for all of them.

    Args:
        table: Available modalities.
        modality: Name of the modality of all images; a list, such as all names, means not given.
        ct_input: What CT values are: ``"hu"``, or ``"windowed"`` to 8 bits.
        series: Name or Series Instance UID of the DICOM volume to read if an item does not say.
        join: What to join that DICOM files keep apart, from ``esp_medsam.dicom.joining.JOINS``.
        frame: Which volume of a 4-D file to read, from 0.
        force_modality: Whether ``modality`` overrides what DICOM says.
        targets: Names of the targets to segment afterwards, which must fit in memory as well; None
            means those that are ready. If empty, only the image itself must fit.

    Raises:
        ModalityError: If ``modality`` is unknown; a missing one is reported only when an image is
            read, because DICOM may state it.
        OptionError: If ``ct_input`` is not one of the two.
    """

    table: ModalityTable
    modality: str | Sequence[str]
    ct_input: str | None = None
    series: str | None = None
    join: Sequence[str] | None = None
    frame: int | None = None
    force_modality: bool = False
    targets: Sequence[str] | str | None = ()

    def __post_init__(self) -> None:
        """Refuse options that no image can be read with."""
        if isinstance(self.modality, str):
            self.table[self.modality]
        if self.ct_input is not None:
            check_one_of("ct_input", self.ct_input, CT_INPUTS)

    def __call__(self, source: str | Path | Item) -> Image:
        """Return an image or volume, pixels included.

        Args:
            source: The file, the folder of a DICOM volume, or an item that planning made of either.

        Raises:
            ModalityError: If no modality was given, or DICOM contradicts it.
            EspMedSamError: If the source cannot be read; see :func:`esp_medsam.io.read`.
        """
        given = self.modality if isinstance(self.modality, str) else None
        planned = source.modality if isinstance(source, Item) else None
        stored = read(
            source,
            volume=self.series,
            join=tuple(self.join or ()),
            frame=self.frame,
            beside=self._beside(given or planned),
        )
        return settle_modality(
            stored, given, self.table, force=self.force_modality, ct_input=self.ct_input
        )

    def _beside(self, modality: str | None) -> Beside:
        if self.targets is not None and len(self.targets) == 0:
            return NOTHING
        return beside_image(self.table, modality, self.targets)
