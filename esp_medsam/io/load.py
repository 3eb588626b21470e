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
"""Types that torch stores but barely supports, and the types that replace them."""


class LoadMedicalImaged(MapTransform):
    """Transform that replaces paths by images, ``(C, *spatial)`` in the file's type, with records.

    The modality is settled here for each image: as the user states it, else as DICOM states it,
    else the image is refused. It is never guessed.

    Args:
        keys: Keys of the inputs: each a path, or an :class:`~esp_medsam.io.item.Item`, which also
            says what its outputs are called and where they go.
        table: Available modalities.
        modality: Name of the modality of all images; a list, such as all names, means not given.
        ct_input: What CT values are: ``"hu"``, whatever their files say, or ``"windowed"`` to 8
            bits; None leaves it to DICOM.
        series: Name or Series Instance UID of the DICOM volume to read if an item does not say.
        join: What to join that DICOM files keep apart; see :func:`esp_medsam.io.read`.
        frame: Which volume of a 4-D file to read, from 0.
        force_modality: Whether ``modality`` overrides what DICOM says.
        targets: Names of the targets to segment afterwards, which must fit in memory as well; None
            means those that are ready. If empty, only the image itself must fit.
        allow_missing_keys: Whether to skip a missing key.

    Raises:
        ModalityError: If ``modality`` is unknown; a missing one is reported only when an image is
            read, because DICOM may state it, and a server builds its transforms before a user
            chooses.
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
            EspMedSamError: If a file cannot be read; see :func:`esp_medsam.io.read`.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = as_meta_tensor(self.read(out[key]))
        return out


def as_meta_tensor(image: Image) -> MetaTensor:
    """Return the pixels of ``image`` with MONAI's meta and, in it, the record without pixels."""
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
    # The readers return flipped and transposed views; torch accepts only transposed ones.
    pixels = image.pixels
    wider = _TORCH_DTYPES.get(pixels.dtype.name)
    if wider is not None:
        pixels = pixels.astype(wider)
    tensor = torch.from_numpy(pixels if min(pixels.strides, default=0) >= 0 else pixels.copy())
    return MetaTensor(tensor, affine=torch.from_numpy(affine.copy()), meta=meta)


def collate(batch: Sequence[Mapping[Hashable, Any]]) -> dict[Hashable, Any]:
    """Return a batch as MONAI's collate makes it, with our records in lists of the batch's length.

    Torch cannot and must not stack records: each image has its own. ``decollate_batch`` gives each
    item its record back. Values that are not tensors, arrays, numbers, text or containers of
    these are kept in lists too.

    Args:
        batch: Items as the pipeline made them, with the same keys.

    Returns:
        The batch; the items are left unchanged.
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
    """Return the same numbers with a new meta that lacks our records."""
    meta = {k: v for k, v in tensor.meta.items() if k not in (IMAGE_KEY, SEGMENTATION_KEY)}
    return MetaTensor(
        tensor.as_tensor(), meta=meta, applied_operations=list(tensor.applied_operations)
    )
