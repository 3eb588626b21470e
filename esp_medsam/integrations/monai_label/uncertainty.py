"""How sure the network is of images, and the one of which it is least sure."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.tasks.activelearning.random import Random

from esp_medsam.errors import EspMedSamError
from esp_medsam.inferers.uncertainty import uncertainty_of
from esp_medsam.integrations.monai_label.checked_image import check_image
from esp_medsam.integrations.monai_label.final_labels import image_path, unlabeled_images
from esp_medsam.integrations.monai_label.parts import Parts
from esp_medsam.integrations.monai_label.versions import Versions
from esp_medsam.io.atomic import atomic_file
from esp_medsam.modality import ALL
from esp_medsam.plain_data import read_own_json


logger = logging.getLogger(__name__)


class Scores:
    """The uncertainty of a modality's images, in a file of the app's folder.

    It is no part of MONAI Label's list of images, which its server may rewrite meanwhile.

    Args:
        app: The app's folder.
        studies: Folder of images, or address of a DICOMweb server.
        modality: The modality.
    """

    def __init__(self, app: Path, studies: str, modality: str) -> None:
        self.modality = modality
        place = hashlib.sha256(studies.encode()).hexdigest()[:16]
        self.path = app / "scores" / place / f"{modality}.json"

    def read(self) -> dict[str, dict[str, Any]]:
        """Return ``weights_sha256`` and ``uncertainty`` by image; None for one that failed."""
        if not self.path.is_file():
            return {}
        scores: dict[str, dict[str, Any]] = read_own_json(self.path)
        return scores

    def write(self, scores: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace all scores."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.path) as file:
            file.write((json.dumps(scores, indent=1) + "\n").encode())


class Uncertainty(ScoringMethod):  # type: ignore[misc]  # MONAI Label has no types
    """Measure of how unsure the network is of a modality's unlabeled images.

    Args:
        modality: The modality.
        parts: What the app's tasks share; the current version is asked.
        scores: Where to keep the results.
    """

    def __init__(self, modality: str, parts: Parts, scores: Scores) -> None:
        super().__init__(f"How unsure the network is of unlabeled images of {modality}.")
        self.modality = modality
        self.parts = parts
        self.scores = scores
        self.targets = parts.ready(modality) or ALL

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Measure the images that were not measured with the current version.

        Returns:
            Number of images ``measured``, ``kept`` and ``failed``.
        """
        del request
        version, scores = self.parts.versions.current(self.modality), self.scores.read()
        weights = version.stated["weights_sha256"]
        counts = {"measured": 0, "kept": 0, "failed": 0}
        for image in unlabeled_images(datastore, self.modality, self.parts.settings.modalities):
            if scores.get(image, {}).get("weights_sha256") == weights:
                counts["kept"] += 1
                continue
            uncertainty = None
            try:
                path = image_path(datastore, image)
                check_image(path, self.parts.settings.most_voxels)
                made = self.parts.segmenters.segment(
                    path,
                    bundle=version.bundle,
                    most_seconds=self.parts.settings.most_seconds,
                    modality=self.modality,
                    targets=self.targets,
                )
                uncertainty = uncertainty_of(made.probability)
                counts["measured"] += 1
            except EspMedSamError as error:
                logger.warning("An image is left out: %s", error.code)
                counts["failed"] += 1
            scores[image] = {"weights_sha256": weights, "uncertainty": uncertainty}
            self.scores.write(scores)
        return counts


class Uncertain(Strategy):  # type: ignore[misc]  # MONAI Label has no types
    """Choice of the unlabeled image of which the network is least sure.

    If none was measured, the choice is random.

    Args:
        scores: The uncertainty of the images of each modality.
        versions: Versions of the weights; scores of others than the current one do not count.
    """

    def __init__(self, scores: Sequence[Scores], versions: Versions) -> None:
        super().__init__("The image of which the network is least sure, as scoring measured it.")
        self.scores = scores
        self.versions = versions
        self._random = Random()

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> Any:
        """Return the ``id`` of an image, and its ``uncertainty``; None if all have labels."""
        unlabeled = set(datastore.get_unlabeled_images())
        known = []
        for scores in self.scores:
            weights = self.versions.current(scores.modality).stated["weights_sha256"]
            known += [
                (score["uncertainty"], image)
                for image, score in scores.read().items()
                if image in unlabeled
                and score["uncertainty"] is not None
                and score["weights_sha256"] == weights
            ]
        if not known:
            return self._random(request, datastore)
        uncertainty, image = max(known)
        return {"id": image, "uncertainty": uncertainty}
