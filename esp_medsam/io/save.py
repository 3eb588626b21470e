"""Saver transform of the pipeline: write all files of a result, its record last."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import SaveImaged
from torch import Tensor

from esp_medsam.dicom.seg_writer import SEG_KINDS
from esp_medsam.errors import (
    OptionError,
    OutputExistsError,
    WeightsNotFoundError,
)
from esp_medsam.identity import check_unchanged
from esp_medsam.image import Image, image_of, modality_of, segmentation_of
from esp_medsam.io.atomic import all_or_none, is_ours, remove_file
from esp_medsam.io.dicom_seg import SegOptions
from esp_medsam.io.output_files import (
    ENDINGS,
    OutputFile,
    check_can_hold,
    formats_for,
    plan_files,
    read_formats,
    write_file,
)
from esp_medsam.io.output_path import check_outputs, output_stem, refuse_inputs
from esp_medsam.io.preview import Shown, previews_of, shown_targets, write_preview
from esp_medsam.io.record import (
    Recipe,
    check_agreement,
    clean_up_entry,
    file_names,
    image_entry,
    is_done,
    is_there,
    read_record,
    record_path,
    source_entry,
    target_entries,
    write_record,
)
from esp_medsam.io.weights_record import hash_of_weights
from esp_medsam.modality import ModalityTable, Target


class SaveSegmentationd(SaveImaged):
    """Write labelmaps, and on request each target and its probability, with a record.

    Files are ``<output_dir>/<relative_dir>/<name>_seg`` with an ending: the labelmap; with
    ``split_targets`` each target's 0/1 mask ``<name>_seg_<target>``, before overlaps are settled;
    with ``probabilities`` ``<name>_seg_<target>_probability``, 255 times the probability;
    with ``preview`` ``<name>_seg_preview.png``, masks drawn over the image, or ``.jpg`` where
    that is smaller. The record
    ``<name>_seg.json`` comes last: a result without it is not done and is made anew.

    It derives from MONAI's SaveImaged, of which it uses nothing, because MONAI Label takes that
    class out of a pipeline, and must: it writes results itself.

    Args:
        keys: Keys of the labelmaps, uint8 ``(1, *spatial)``; their meta holds the records.
        output_dir: Folder that outputs go to.
        table: Modalities at hand: labels and colors.
        probability_key: Key of the probabilities, uint8 ``(T, *spatial)``, targets in the order of
            the segmentation record.
        output_format: One of :data:`OUTPUT_FORMATS`, or several, in a list or with commas.
        seg_type: How DICOM-SEG stores segments, one of :data:`esp_medsam.dicom.SEG_KINDS`:
            ``binary``, where targets may overlap, ``labelmap`` or ``fractional``.
        fixed_uids: Whether the UIDs, date and time of a DICOM-SEG follow from its sources, the
            weights and the settings, so that a re-run makes the same object.
        write_empty: Whether a DICOM-SEG is written where nothing was found.
        split_targets: Whether to write a mask for each target.
        probabilities: Whether to write the probability of each target.
        preview: Whether to write a picture of each result.
        image_key: Key of the image, ``(C, *spatial)``, which only the picture needs.
        slice_axis: As the inferer's; only the picture depends on it.
        weights: File of the weights, hashed for the record when the first result is written.
        settings: What else results depend on, recorded and compared as well.
        transforms: In words and by modality, what images are prepared with that is not the default;
            of an item that of its own modality is recorded and compared.
        overwrite: Whether results that differ, and files that are not ours, may be replaced.
        verify: Whether a result counts as done only where the content of its input and its files
            is what its record says, which reads them all; else sizes and times tell.
        allow_missing_keys: Whether to pass over a key that is missing.

    Attributes:
        weights_sha256: Hash of ``weights``, taken when it is first asked for unless it was set; of
            weights that were read long before it is what they were then.

    Raises:
        OptionError: If ``output_format`` or ``seg_type`` is none of those.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        output_dir: str | Path,
        table: ModalityTable,
        probability_key: str = "probability",
        output_format: str | Sequence[str] = "auto",
        seg_type: str = "binary",
        fixed_uids: bool = False,
        write_empty: bool = False,
        split_targets: bool = False,
        probabilities: bool = False,
        preview: bool = False,
        image_key: str = "image",
        slice_axis: str | None = None,
        weights: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        transforms: Mapping[str, str] | None = None,
        overwrite: bool = False,
        verify: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(
            keys, output_dir=output_dir, print_log=False, allow_missing_keys=allow_missing_keys
        )
        if seg_type not in SEG_KINDS:
            msg = f"seg_type must be one of {', '.join(SEG_KINDS)}; got {seg_type!r}."
            raise OptionError(msg)
        self.output_dir = Path(output_dir)
        self.table = table
        self.probability_key = probability_key
        self.output_formats = read_formats(output_format)
        self.seg_type = seg_type
        self.fixed_uids = fixed_uids
        self.write_empty = write_empty
        self.split_targets = split_targets
        self.probabilities = probabilities
        self.preview = preview
        self.image_key = image_key
        self.slice_axis = slice_axis
        self.weights = weights
        self.settings = dict(settings or {})
        self.transforms = transforms
        self.overwrite = overwrite
        self.verify = verify
        self.weights_sha256: str | None = None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the result of one item and return the item unchanged.

        Raises:
            InputChangedError: If the input is no longer what was read; nothing is written then.
            InputNotFoundError: If it is gone.
            OutputExistsError: If a result that differs is there, or a file that is not ours.
            OutputError: If a file cannot be written; those written before it are removed.
            GeometryError: If the labelmap is not on the grid of its image.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            self._save(out[key], out.get(self.probability_key), out.get(self.image_key))
        return out

    def recipe(
        self,
        *,
        is_volume: bool,
        is_dicom: bool,
        modality: str,
        targets: Sequence[str],
        or_more: bool = False,
    ) -> Recipe:
        """Return what a result is made with, as its record would state it.

        Args:
            is_volume: Whether the input has three axes.
            is_dicom: Whether it is of DICOM files.
            modality: Name of its modality.
            targets: Names of the chosen targets, in table order.
            or_more: Whether a result of more targets will do.

        Raises:
            OptionError: If the output format cannot hold the result.
            WeightsNotFoundError: If the file of the weights is gone.
        """
        formats = formats_for(self.output_formats, is_volume=is_volume, is_dicom=is_dicom)
        settings = dict(self.settings)
        if self.transforms is not None:
            said = self.transforms.get(modality)
            settings["transforms"] = {} if said is None else {modality: said}
        settings["clean_up"] = clean_up_entry(self.table.select(modality, targets))
        if "dicom-seg" in formats:
            own = ("seg_type", "fixed_uids", "write_empty")
            settings |= {name: getattr(self, name) for name in own}
        formats += ["split_targets"] if self.split_targets else []
        formats += ["probabilities"] if self.probabilities else []
        return Recipe(
            modality=modality,
            targets=tuple(targets),
            formats=tuple(formats),
            weights_sha256=self._hash_of_weights(),
            settings=settings,
            or_more=or_more,
        )

    def check(self, image: Image) -> None:
        """Refuse an image whose result the output format cannot hold.

        Raises:
            GeometryError: If its slices have gaps, or are frames, of which NIfTI knows nothing.
            OptionError: If the output format is for pictures, or for DICOM, and it is none.
            FormatError: If its files lack what a DICOM-SEG must state.
        """
        kind = {"is_volume": image.grid.is_volume, "is_dicom": bool(image.sources)}
        check_can_hold(formats_for(self.output_formats, **kind), image)

    def is_done(
        self,
        files: Sequence[str | Path],
        *,
        name: str,
        relative_dir: str = "",
        is_volume: bool,
        is_dicom: bool,
        modality: str,
        targets: Sequence[str],
        or_more: bool = False,
    ) -> bool:
        """Whether the result of an input is there, and the one this saver would write.

        Args:
            files: The files of the input.
            name: What its outputs are called.
            relative_dir: Folder of the input below the input root.
            is_volume: Whether it has three axes.
            is_dicom: Whether it is of DICOM files.
            modality: Name of its modality.
            targets: Names of the chosen targets, in table order.
            or_more: Whether a result of more targets will do.

        Returns:
            False where it is to be made, or made anew: always with ``overwrite``.

        Raises:
            OutputExistsError: If a result that differs is there.
            OutputError: If it could not be written, whatever comes out: told before it is made.
            OptionError: If the output format cannot hold the result.
            InputNotFoundError: If the input is gone.
        """
        recipe = self.recipe(
            is_volume=is_volume,
            is_dicom=is_dicom,
            modality=modality,
            targets=targets,
            or_more=or_more,
        )
        stem = output_stem(self.output_dir, relative_dir, name)
        planned = self._plan(stem, recipe, self.table.select(modality, targets))
        check_outputs(self._paths(stem, planned), self.output_dir)
        if self.overwrite:
            return False
        # Asked for later, a preview contradicts nothing: it is only not there yet.
        is_drawn = not self.preview or any(map(is_ours, previews_of(stem)))
        return is_done(stem, recipe, files, verify=self.verify) and is_drawn

    def _save(self, labelmap: Any, probability: Tensor | None, pixels: Tensor | None) -> None:
        image, segmentation = image_of(labelmap.meta), segmentation_of(labelmap.meta)
        targets = self.table.select(modality_of(image), segmentation.targets)
        stem = output_stem(self.output_dir, image.relative_dir, image.name)
        self.check(image)
        recipe = self.recipe(
            is_volume=image.grid.is_volume,
            is_dicom=bool(image.sources),
            modality=modality_of(image),
            targets=segmentation.targets,
        )
        planned = self._plan(stem, recipe, targets)
        check_unchanged(image.identity)
        previous = self._make_way(stem, recipe, image, self._paths(stem, planned))
        labels = _plain(labelmap)
        probabilities = None if probability is None else _plain(probability)
        with all_or_none(self.output_dir) as written:
            for file in planned:
                is_there = write_file(
                    file,
                    image,
                    targets,
                    labelmap=labels,
                    probability=probabilities,
                    seg=self._seg_options(recipe),
                    root=self.output_dir,
                )
                written += [file.path] if is_there else []
            if self.preview:
                shown = shown_targets(targets, segmentation, image)
                written.append(self._draw(stem, labels, pixels, image, shown))
            # A DICOM-SEG takes over what the headers say when it is written.
            check_unchanged(image.identity)
            for name in previous.difference(path.name for path in written):
                remove_file(stem.with_name(name), self.output_dir)
            found = {"empty": not bool(labels.any())}
            write_record(
                stem,
                recipe,
                source=source_entry(image),
                files=written,
                targets=target_entries(targets, segmentation, image),
                details={**found, **image_entry(image, segmentation)},
                root=self.output_dir,
            )

    def _plan(self, stem: Path, recipe: Recipe, targets: Sequence[Target]) -> list[OutputFile]:
        """Return the files of a result but for its picture and its record."""
        return plan_files(
            stem,
            [name for name in recipe.formats if name in ENDINGS],
            targets,
            split_targets=self.split_targets,
            probabilities=self.probabilities,
        )

    def _paths(self, stem: Path, planned: Sequence[OutputFile]) -> list[Path]:
        """Return all that a result may consist of, its record last."""
        pictures = previews_of(stem) if self.preview else []
        return [*(file.path for file in planned), *pictures, record_path(stem)]

    def _seg_options(self, recipe: Recipe) -> SegOptions:
        # What says when an object is written, not what it holds, must not make it another one.
        apart = ("fixed_uids", "write_empty")
        return SegOptions(
            kind=self.seg_type,
            weights_sha256=recipe.weights_sha256,
            settings={key: value for key, value in recipe.settings.items() if key not in apart},
            fixed=self.fixed_uids,
            write_empty=self.write_empty,
        )

    def _draw(
        self,
        stem: Path,
        labels: Tensor,
        pixels: Tensor | None,
        image: Image,
        shown: Sequence[Shown],
    ) -> Path:
        """Write the picture of a result and return its path."""
        if pixels is None:
            msg = f"preview of {stem.name} needs the image; {self.image_key!r} is not there."
            raise KeyError(msg)
        values = _plain(pixels).numpy()
        place = self.slice_axis, self.output_dir
        return write_preview(stem, values, labels.numpy(), image, shown, *place)

    def _make_way(
        self, stem: Path, recipe: Recipe, image: Image, paths: Sequence[Path]
    ) -> set[str]:
        """Refuse to replace what must stay; take back the old record; return its files."""
        check_outputs(paths, self.output_dir)
        refuse_inputs(paths, image.identity)
        try:
            record = read_record(stem)
        except OutputExistsError:
            if not self.overwrite:
                raise
            record = None
        if record and not self.overwrite:
            check_agreement(record, stem, recipe, _files_of(image))
            is_there(record, stem)  # what was changed by hand is not replaced
        previous = set(file_names(record)) if record else set()
        for path in paths[:-1]:
            # What a killed run left has our mark, and no record.
            known = path.name in previous or self.overwrite
            if not known and os.path.lexists(path) and not is_ours(path):
                msg = f"{path} must be free; it was not written here. Pass --overwrite, or move it."
                raise OutputExistsError(msg)
        # Without its record the old result is none: a crash from here on mixes nothing.
        remove_file(record_path(stem), self.output_dir)
        return previous

    def _hash_of_weights(self) -> str | None:
        if self.weights is None:
            return None
        if self.weights_sha256 is None:
            try:
                self.weights_sha256 = hash_of_weights(self.weights)
            except OSError as error:
                msg = f"weights must be a readable file; got {self.weights}."
                raise WeightsNotFoundError(msg) from error
        return self.weights_sha256


def _files_of(image: Image) -> list[str]:
    """Return the files that an image was read from."""
    return [image.path] if image.identity is None else [f.path for f in image.identity.files]


def _plain(tensor: Tensor) -> Tensor:
    """Return the numbers of a tensor, of MONAI's or torch's kind, on the CPU."""
    plain = tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
    return plain.detach().cpu()
