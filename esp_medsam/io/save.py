"""Saver transform of the pipeline."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import SaveImaged
from torch import Tensor

from esp_medsam.image import image_of, segmentation_of
from esp_medsam.io.result_plan import ResultPlanner
from esp_medsam.io.result_writer import write_result


class SaveSegmentationd(SaveImaged):
    """Transform that writes labelmaps, and other requested files, with a record.

    It derives from MONAI's SaveImaged, without using any of its methods, because MONAI Label
    removes that class from a pipeline, as it must: it writes results itself.

    Args:
        keys: Keys of the labelmaps, uint8 ``(1, *spatial)``; their meta holds the records.
        outputs: Planner of the files of each result.
        probability_key: Key of the probabilities, uint8 ``(T, *spatial)``, targets in the order of
            the segmentation record.
        image_key: Key of the image, ``(C, *spatial)``, needed only for a preview.
        allow_missing_keys: Whether to skip a missing key.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        outputs: ResultPlanner,
        probability_key: str = "probability",
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(
            keys,
            output_dir=outputs.output_dir,
            print_log=False,
            allow_missing_keys=allow_missing_keys,
        )
        self.outputs = outputs
        self.probability_key = probability_key
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the result of one item and return the item unchanged.

        Raises:
            EspMedSamError: As in :func:`~esp_medsam.io.result_writer.write_result`.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            labelmap = _plain(out[key])
            probability, pixels = out.get(self.probability_key), out.get(self.image_key)
            image, segmentation = image_of(out[key].meta), segmentation_of(out[key].meta)
            write_result(
                self.outputs.plan(image, segmentation.targets),
                image,
                segmentation,
                labelmap=labelmap,
                probability=None if probability is None else _plain(probability),
                pixels=None if pixels is None else _plain(pixels),
            )
        return out


def _plain(tensor: Tensor) -> Tensor:
    """Return a MONAI or torch tensor as a plain torch tensor on the CPU."""
    plain = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    return plain.detach().cpu()
