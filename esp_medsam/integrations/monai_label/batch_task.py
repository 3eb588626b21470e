"""Segmentation of many images, which goes on past one that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.batch_infer import BatchInferTask

from esp_medsam.errors import EspMedSamError, explain
from esp_medsam.integrations.monai_label.segment_task import remove_made


logger = logging.getLogger(__name__)


class BatchTask(BatchInferTask):  # type: ignore[misc]  # MONAI Label has no types
    """Segment many images one after another, and save the results as labels.

    MONAI Label's own ends at the first image that fails.
    """

    def __call__(
        self, request: Mapping[str, Any], datastore: Datastore, infer: Callable[..., Any]
    ) -> dict[str, Any]:
        """Segment all images that a request asks for.

        Returns:
            The result of each image by its id: ``label``, ``tag`` and ``params``; of one that
            failed, ``error``.
        """
        images = sorted(self.get_images(request, datastore))
        most = request.get("max_batch_size") or 0
        most = most if isinstance(most, int) else 0
        results: dict[str, Any] = {}
        for image in images[:most] if most > 0 else images:
            asked = {**request, "image": image, "save_label": True}
            try:
                result = infer(asked, datastore)
            except Exception as error:  # the others are segmented all the same
                said = explain(error) or f"E_ERROR: {type(error).__name__}"
                if not isinstance(error, EspMedSamError):
                    logger.error("An image of a batch ended in %s.", said)
                results[image] = {"error": said}
                continue
            remove_made(result.pop("file"))
            results[image] = result
        failed = sum("error" in result for result in results.values())
        logger.info("Batch: %d done, %d failed.", len(results) - failed, failed)
        return results
