"""Loader transform of the pipeline, and the collate function that keeps its records."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, list_data_collate
from monai.transforms import MapTransform

from esp_medsam.image import IMAGE_KEY, SEGMENTATION_KEY, Image
from esp_medsam.io.item_reader import ItemReader
from esp_medsam.modality import ModalityTable


_TORCH_DTYPES = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}
"""Types that torch stores but hardly computes with, and what holds the same numbers."""


class LoadMedicalImaged(MapTransform):
    """Replace paths by images, ``(C, *spatial)`` in the type of the file, with all that is known.

    The modality is settled here, image by image: the user's word, else DICOM's, else refused, never
    guessed.

    Args:
        keys: Keys of what to read: a path, or an :class:`~esp_medsam.io.item.Item`, which says
            besides what its outputs are called and where they go.
        table: Modalities at hand.
        modality: Name of the modality of all images; a list, as of all names, means not given.
        ct_input: What CT values are: ``"hu"``, whatever their files say, or ``"windowed"`` to 8
            bits; None leaves it to DICOM.
        series: Name or Series Instance UID of the DICOM volume to read where items do not say.
        join: What to join that DICOM files keep apart, see :func:`esp_medsam.io.read`.
        frame: Which volume of a 4-D file, from 0.
        force_modality: Whether ``modality`` counts against what DICOM says.
        targets: Names of the targets that are to be segmented afterwards, which must fit in memory
            as well; None means those that are ready. Without any nothing else need fit.
        allow_missing_keys: Whether to pass over a key that is missing.

    Raises:
        ModalityError: If ``modality`` is unknown; that it is not given shows only when an image is
            read, because DICOM may say it, and a server builds its transforms before anyone has
            chosen.
        OptionError: If ``ct_input`` is not one of the two.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        table: ModalityTable,
        modality: str | Sequence[str],
        ct_input: str | None = None,
        series: str | None = None,
        join: Sequence[str] | None = None,
        frame: int | None = None,
        force_modality: bool = False,
        targets: Sequence[str] | str | None = (),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.read = ItemReader(
            table=table,
            modality=modality,
            ct_input=ct_input,
            series=series,
            join=join,
            frame=frame,
            force_modality=force_modality,
            targets=targets,
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a shallow copy of ``data`` with its paths replaced by MetaTensors.

        Raises:
            ModalityError: If no modality was given, or DICOM contradicts it.
            EspMedSamError: If a file cannot be read, see :func:`esp_medsam.io.read`.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = as_meta_tensor(self.read(out[key]))
        return out


def as_meta_tensor(image: Image) -> MetaTensor:
    """Return the pixels of ``image`` with MONAI's meta and, beside it, the record without them."""
    assert image.pixels is not None, "the record was made with its pixels"
    affine = np.eye(4) if image.grid.affine is None else image.grid.affine
    meta = {
        "original_affine": affine.copy(),
        "spatial_shape": np.asarray(image.grid.shape),
        "space": "RAS",
        "filename_or_obj": image.path,
        "original_channel_dim": 0,
        IMAGE_KEY: dataclasses.replace(image, pixels=None),
    }
    # Flipped and transposed views are what the readers hand out; torch takes the latter alone.
    pixels = image.pixels
    wider = _TORCH_DTYPES.get(pixels.dtype.name)
    if wider is not None:
        pixels = pixels.astype(wider)
    tensor = torch.from_numpy(pixels if min(pixels.strides, default=0) >= 0 else pixels.copy())
    return MetaTensor(tensor, affine=torch.from_numpy(affine.copy()), meta=meta)


def collate(batch: Sequence[Mapping[Hashable, Any]]) -> dict[Hashable, Any]:
    """Return a batch as MONAI's collate makes it, our records kept in lists of its length.

    Torch cannot stack records, and must not: each image has its own. ``decollate_batch`` hands each
    item its record back. Values that are no tensor, array, number, text or container of
    those are kept in lists too.

    Args:
        batch: Items as the pipeline made them, with the same keys.

    Returns:
        The batch; the items are left as they were.
    """
    plain = [dict(item) for item in batch]
    batched: dict[Hashable, Any] = {}
    records: dict[tuple[Hashable, str], list[Any]] = {}
    for key, first in batch[0].items():
        values = [item[key] for item in batch]
        if isinstance(first, MetaTensor):
            for name in (IMAGE_KEY, SEGMENTATION_KEY):
                if name in first.meta:
                    records[key, name] = [value.meta[name] for value in values]
            for item in plain:
                item[key] = _without_records(item[key])
        elif dataclasses.is_dataclass(first) or first is None:
            batched[key] = values
            for item in plain:
                del item[key]
    batched = {**list_data_collate(plain), **batched}
    for (key, name), values in records.items():
        batched[key].meta[name] = values
    return batched


def _without_records(tensor: MetaTensor) -> MetaTensor:
    """Return the same numbers with a meta of its own that lacks our records."""
    meta = {k: v for k, v in tensor.meta.items() if k not in (IMAGE_KEY, SEGMENTATION_KEY)}
    return MetaTensor(
        tensor.as_tensor(), meta=meta, applied_operations=list(tensor.applied_operations)
    )
