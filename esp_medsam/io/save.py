"""The saver transform of the pipeline: every file of one result, its record last."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import SaveImaged
from torch import Tensor

from esp_medsam.errors import (
    GeometryError,
    OptionError,
    OutputExistsError,
    WeightsNotFoundError,
)
from esp_medsam.image import Image, Segmentation, image_of, segmentation_of
from esp_medsam.io.atomic import is_ours
from esp_medsam.io.output_files import PREVIEW_ENDING, OutputFile, plan_files, write_file
from esp_medsam.io.record import (
    Recipe,
    Source,
    is_done,
    output_stem,
    read_record,
    record_path,
    write_record,
)
from esp_medsam.modality import ModalityTable, Target


OUTPUT_FORMATS = ("auto", "nifti", "png")
"""What a user may ask for; ``auto`` is NIfTI for volumes and PNG for pictures."""


class SaveSegmentationd(SaveImaged):
    """Write labelmaps, and on request each target and its probability, with a record.

    Files are ``<output_dir>/<relative_dir>/<name>_seg`` with an ending: the labelmap; with
    ``split_targets`` each target's 0/1 mask ``<name>_seg_<target>``, before overlaps are settled;
    with ``probabilities`` ``<name>_seg_<target>_probability``, 255 times the probability. The
    record ``<name>_seg.json`` comes last: a result without it is not done and is made anew.

    It derives from MONAI's SaveImaged, of which it uses nothing, because MONAI Label takes that
    class out of a pipeline, and must: it writes results itself.

    Args:
        keys: Keys of the labelmaps, uint8 ``(1, *spatial)``; their meta holds the records.
        output_dir: Folder that outputs go to.
        table: Modalities at hand: labels and colors.
        probability_key: Key of the probabilities, uint8 ``(T, *spatial)``, targets in the order of
            the segmentation record.
        output_format: One of :data:`OUTPUT_FORMATS`.
        split_targets: Whether to write a mask for each target.
        probabilities: Whether to write the probability of each target.
        preview: Whether a preview, written before by SavePreviewd, belongs to each result.
        weights: File of the weights, hashed for the record when the first result is written.
        settings: What else results depend on, recorded and compared as well.
        overwrite: Whether results that differ, and files that are not ours, may be replaced.
        allow_missing_keys: Whether to pass over a key that is missing.

    Raises:
        OptionError: If ``output_format`` is none of those.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        output_dir: str | Path,
        table: ModalityTable,
        probability_key: str = "probability",
        output_format: str = "auto",
        split_targets: bool = False,
        probabilities: bool = False,
        preview: bool = False,
        weights: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(
            keys, output_dir=output_dir, print_log=False, allow_missing_keys=allow_missing_keys
        )
        if output_format not in OUTPUT_FORMATS:
            valid = ", ".join(OUTPUT_FORMATS)
            msg = f"output_format must be one of {valid}; got {output_format!r}."
            raise OptionError(msg)
        self.output_dir = Path(output_dir)
        self.table = table
        self.probability_key = probability_key
        self.output_format = output_format
        self.split_targets = split_targets
        self.probabilities = probabilities
        self.preview = preview
        self.weights = weights
        self.settings = dict(settings or {})
        self.overwrite = overwrite
        self._weights_sha256: str | None = None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the result of one item and return the item unchanged.

        Raises:
            OutputExistsError: If a result that differs is there, or a file that is not ours.
            OutputError: If a file cannot be written.
            GeometryError: If the labelmap is not on the grid of its image.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            self._save(out[key], out.get(self.probability_key))
        return out

    def recipe(self, *, is_volume: bool, modality: str, targets: Sequence[str]) -> Recipe:
        """Return what a result is made with, as its record would state it.

        Args:
            is_volume: Whether the input has three axes.
            modality: Name of its modality.
            targets: Names of the chosen targets, in table order.

        Raises:
            OptionError: If the output format cannot hold the result.
            WeightsNotFoundError: If the file of the weights is gone.
        """
        formats = [self._format_of(is_volume=is_volume)]
        formats += ["split_targets"] if self.split_targets else []
        formats += ["probabilities"] if self.probabilities else []
        return Recipe(
            modality=modality,
            targets=tuple(targets),
            formats=tuple(formats),
            weights_sha256=self._hash_of_weights(),
            settings=self.settings,
        )

    def check(self, image: Image) -> None:
        """Refuse an image whose result the output format cannot hold.

        Raises:
            GeometryError: If its slices have gaps, or are frames, of which NIfTI knows nothing.
            OptionError: If the output format is for pictures, and it is none.
        """
        chosen = self._format_of(is_volume=image.is_volume)
        if chosen == "nifti" and image.is_volume and image.affine is None:
            what = "frames in time" if image.slice_affines is None else "not evenly stacked"
            msg = (
                f"output_format nifti must be asked of evenly stacked slices only; those of "
                f"{image.path} ({image.name}) are {what}, which NIfTI cannot say."
            )
            raise GeometryError(msg)

    def is_done(
        self,
        source: Source,
        *,
        name: str,
        relative_dir: str = "",
        is_volume: bool,
        modality: str,
        targets: Sequence[str],
    ) -> bool:
        """Whether the result of ``source`` is there, and the one this saver would write.

        Args:
            source: The input.
            name: What its outputs are called.
            relative_dir: Folder of the input below the input root.
            is_volume: Whether it has three axes.
            modality: Name of its modality.
            targets: Names of the chosen targets, in table order.

        Returns:
            False where it is to be made, or made anew: always with ``overwrite``.

        Raises:
            OutputExistsError: If a result that differs is there.
            OptionError: If the output format cannot hold the result.
        """
        recipe = self.recipe(is_volume=is_volume, modality=modality, targets=targets)
        if self.overwrite:
            return False
        stem = output_stem(self.output_dir, relative_dir, name)
        # Asked for later, a preview contradicts nothing: it is only not there yet.
        return is_done(stem, recipe, source) and (not self.preview or _preview(stem).is_file())

    def _save(self, labelmap: Any, probability: Tensor | None) -> None:
        image, segmentation = image_of(labelmap.meta), segmentation_of(labelmap.meta)
        targets = self.table.select(image.modality, segmentation.targets)
        stem = output_stem(self.output_dir, image.relative_dir, image.name)
        self.check(image)
        recipe = self.recipe(
            is_volume=image.is_volume, modality=image.modality, targets=segmentation.targets
        )
        files = plan_files(
            stem,
            recipe.formats[0],
            targets,
            split_targets=self.split_targets,
            probabilities=self.probabilities,
        )
        previous = self._make_way(stem, recipe, image, files)
        for file in files:
            write_file(
                file,
                image,
                targets,
                labelmap=_plain(labelmap),
                probability=None if probability is None else _plain(probability),
            )
        names = [file.path.name for file in files]
        names += [_preview(stem).name] if self.preview else []
        for name in previous.difference(names):
            stem.with_name(name).unlink(missing_ok=True)
        write_record(
            stem,
            recipe,
            source=Source.of(image),
            files=names,
            targets=_described(targets, segmentation),
            details={
                "modality_origin": image.modality_origin,
                "dicom_modality": image.dicom_modality,
                "study_uid": image.study_uid,
                "series_uid": image.series_uid,
                "unit": image.unit,
                "intensity_range": image.intensity_range,
                "spatial_shape": image.file_shape or image.spatial_shape,
                "warnings": [*image.warnings, *segmentation.warnings],
            },
        )

    def _make_way(
        self, stem: Path, recipe: Recipe, image: Image, files: Sequence[OutputFile]
    ) -> set[str]:
        """Refuse to replace what must stay; take back the old record; return its files."""
        if not self.overwrite:
            is_done(stem, recipe, Source.of(image))
        try:
            record = read_record(stem)
        except OutputExistsError:
            if not self.overwrite:
                raise
            record = None
        previous = set(record["files"]) if record else set()
        for path in (file.path for file in files):
            # What a killed run left has our mark, and no record.
            known = path.name in previous or self.overwrite
            if not known and path.exists() and not is_ours(path):
                msg = f"{path} must be free; it was not written here. Pass --overwrite, or move it."
                raise OutputExistsError(msg)
        # Without its record the old result is none: a crash from here on mixes nothing.
        record_path(stem).unlink(missing_ok=True)
        return previous

    def _format_of(self, *, is_volume: bool) -> str:
        if self.output_format == "auto":
            return "nifti" if is_volume else "png"
        if self.output_format == "png" and is_volume:
            msg = "output_format png must not be asked for volumes; got one. Use nifti."
            raise OptionError(msg)
        return self.output_format

    def _hash_of_weights(self) -> str | None:
        if self.weights is None:
            return None
        if self._weights_sha256 is None:
            try:
                self._weights_sha256 = _sha256(Path(self.weights))
            except OSError as error:
                msg = f"weights must be a readable file; got {self.weights}."
                raise WeightsNotFoundError(msg) from error
        return self._weights_sha256


def _preview(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}{PREVIEW_ENDING}")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _plain(tensor: Tensor) -> Tensor:
    """Return the numbers of a tensor, of MONAI's or torch's kind, on the CPU."""
    plain = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    return plain.detach().cpu()


def _described(targets: Sequence[Target], segmentation: Segmentation) -> list[dict[str, Any]]:
    return [
        {"name": target.name, "label": target.label, "confidence": confidence}
        for target, confidence in zip(targets, segmentation.confidence, strict=True)
    ]
