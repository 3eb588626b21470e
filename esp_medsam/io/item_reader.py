"""Read one item of a run as requested, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from esp_medsam.errors import OptionError
from esp_medsam.image import Image
from esp_medsam.io.budget import beside_image
from esp_medsam.io.ct_units import CT_INPUTS
from esp_medsam.io.modality import settle_modality
from esp_medsam.io.read import read
from esp_medsam.memory import NOTHING, Beside
from esp_medsam.modality import ModalityTable


@dataclass(frozen=True, kw_only=True)
class ItemReader:
    """Read items one by one; what is the same for all of them is said once.

    Args:
        table: Modalities at hand.
        modality: Name of the modality of all images; a list, as of all names, means not given.
        ct_input: What CT values are: ``"hu"``, or ``"windowed"`` to 8 bits.
        series: Name or Series Instance UID of the DICOM volume to read where items do not say.
        join: What to join that DICOM files keep apart, of ``esp_medsam.dicom.joining.JOINS``.
        frame: Which volume of a 4-D file, from 0.
        force_modality: Whether ``modality`` counts against what DICOM says.
        targets: Names of the targets that are to be segmented afterwards, which must fit in memory
            as well; None means those that are ready. Without any nothing else need fit.

    Raises:
        ModalityError: If ``modality`` is unknown; that it is not given shows only when an image is
            read, because DICOM may say it.
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
        """Refuse what no image can be read with."""
        if isinstance(self.modality, str):
            self.table[self.modality]
        if self.ct_input not in (None, *CT_INPUTS):
            msg = f"ct_input must be one of {', '.join(CT_INPUTS)}; got {self.ct_input!r}."
            raise OptionError(msg)

    def __call__(self, path: str | Path, item: Mapping[Any, Any]) -> Image:
        """Return the image or volume at ``path``, pixels included.

        Args:
            path: The file; of a DICOM volume its folder.
            item: What is known of it: ``name`` (what its outputs are called), ``relative_dir``
                (its folder below the input root), ``modality``, ``warnings``, and of DICOM
                ``volume`` and ``files``; each may be missing.

        Raises:
            ModalityError: If no modality was given, or DICOM contradicts it.
            EspMedSamError: If it cannot be read, see :func:`esp_medsam.io.read`.
        """
        modality = self.modality if isinstance(self.modality, str) else None
        stored = read(
            path,
            volume=item.get("volume") or self.series,
            files=item.get("files"),
            join=tuple(self.join or ()),
            frame=self.frame,
            beside=self._beside(modality or item.get("modality")),
        )
        image = settle_modality(
            stored, modality, self.table, force=self.force_modality, ct_input=self.ct_input
        )
        return replace(
            image,
            name=str(item.get("name") or image.name),
            relative_dir=str(item.get("relative_dir") or ""),
            # What is known only where the folders beside it are, too; each said once.
            warnings=tuple(dict.fromkeys((*image.warnings, *item.get("warnings", ())))),
        )

    def _beside(self, modality: str | None) -> Beside:
        if self.targets is not None and len(self.targets) == 0:
            return NOTHING
        return beside_image(self.table, modality, self.targets)
