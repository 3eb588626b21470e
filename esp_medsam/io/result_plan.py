"""Plan the files of a result: which files, where they go, and what they are made with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from esp_medsam.dicom.seg import SEG_KINDS
from esp_medsam.errors import WeightsNotFoundError, check_one_of
from esp_medsam.identity import states_of
from esp_medsam.image import Image
from esp_medsam.io.atomic import is_ours
from esp_medsam.io.dicom_seg import SegOptions
from esp_medsam.io.item import Item
from esp_medsam.io.output_files import OutputFile, plan_files
from esp_medsam.io.output_formats import formats_for, read_formats
from esp_medsam.io.output_path import check_outputs, output_stem, record_path
from esp_medsam.io.preview import previews_of
from esp_medsam.io.record import Recipe, has_statistics, is_done
from esp_medsam.io.weights_record import hash_of_weights
from esp_medsam.modality import THRESHOLD, CleanUp, ModalityTable, Target
from esp_medsam.version import __version__


@dataclass(kw_only=True)
class ResultPlanner:
    """Planner of results that are written one after the other with the same options.

    Files are ``<output_dir>/<relative_dir>/<name>_seg`` with an ending: the labelmap; with
    ``split_targets`` each target's 0/1 mask ``<name>_seg_<target>``, before overlaps are settled;
    with ``probabilities`` ``<name>_seg_<target>_probability``, 255 times the probability;
    with ``preview`` ``<name>_seg_preview.png``, masks drawn over the image, or ``.jpg`` if the PNG
    would be too large. The record ``<name>_seg.json`` comes last: a result without it is not done
    and is made again.

    Args:
        output_dir: Folder that outputs go to.
        table: Available modalities, with labels and colors.
        output_format: One of :data:`~esp_medsam.io.output_formats.OUTPUT_FORMATS`, or several, in a
            list or separated by commas.
        seg_type: How DICOM-SEG stores segments, one of :data:`esp_medsam.dicom.SEG_KINDS`:
            ``binary``, in which targets may overlap, ``labelmap`` or ``fractional``.
        fixed_uids: Whether the UIDs, date and time of a DICOM-SEG are derived from its sources, the
            weights and the settings, so that a re-run makes the same object.
        write_empty: Whether a DICOM-SEG is written if nothing was found.
        split_targets: Whether to write a mask for each target.
        probabilities: Whether to write the probability of each target.
        preview: Whether to write a picture of each result.
        statistics: Whether the record states the statistics of each target's segment.
        weights: File of the weights, hashed for the record when the first result is written.
        weights_sha256: Hash of the weights; if not given, computed when first needed. For weights
            that were read long before, pass the hash they had then.
        settings: Other settings that results depend on, recorded and compared as well; the picture
            also depends on ``slice_axis``.
        transforms: Descriptions, by modality, of image preparation that is not the default; an
            item's record states, and is compared by, the one of its own modality.
        overwrite: Whether results that differ, and files that are not ours, may be replaced.
        verify: Whether a result counts as done only if the content of its input and its files
            matches its record, which reads them all; otherwise sizes and times decide.

    Raises:
        OptionError: If ``output_format`` or ``seg_type`` is invalid.
    """

    output_dir: Path
    table: ModalityTable
    output_format: str | Sequence[str] = "auto"
    seg_type: str = "binary"
    fixed_uids: bool = False
    write_empty: bool = False
    split_targets: bool = False
    probabilities: bool = False
    preview: bool = False
    statistics: bool = False
    weights: str | Path | None = None
    weights_sha256: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    transforms: Mapping[str, str] | None = None
    overwrite: bool = False
    verify: bool = False

    def __post_init__(self) -> None:
        """Refuse invalid options."""
        check_one_of("seg_type", self.seg_type, SEG_KINDS)
        self.output_dir = Path(self.output_dir)
        self.output_format = read_formats(self.output_format)

    def plan(
        self,
        source: Item | Image,
        targets: Sequence[str],
        *,
        name: str | None = None,
        or_more: bool = False,
    ) -> ResultPlan:
        """Return the plan of one result.

        Args:
            source: What is segmented; its modality must be settled.
            targets: Names of the chosen targets, in table order.
            name: Name of the outputs, instead of the source's own name.
            or_more: Whether a result with more targets is accepted.

        Raises:
            OptionError: If the output format cannot hold the result.
            OutputError: If the name is not possible for a file.
            WeightsNotFoundError: If the file of the weights is gone.
        """
        assert source.modality is not None, "planning, or the loader, settled it"
        chosen = self.table.select(source.modality, targets)
        formats = formats_for(
            self.output_format, is_dicom=source.is_dicom, is_volume=source.is_volume
        )
        recipe = self.recipe(source.modality, chosen, formats, or_more=or_more)
        seg = self._seg_options(recipe)
        stem = output_stem(self.output_dir, source.relative_dir, name or source.name)
        record = record_path(stem)
        files = plan_files(
            stem,
            formats,
            chosen,
            split_targets=self.split_targets,
            probabilities=self.probabilities,
        )
        pictures = previews_of(stem) if self.preview else []
        paths = (*(file.path for file in files), *pictures, record)
        return ResultPlan(
            options=self,
            stem=stem,
            recipe=recipe,
            targets=chosen,
            seg=seg,
            files=tuple(files),
            paths=paths,
            record=record,
        )

    def recipe(
        self,
        modality: str,
        targets: Sequence[Target],
        formats: Sequence[str],
        *,
        or_more: bool = False,
    ) -> Recipe:
        """Return what a result is made with, as its record would state it.

        Args:
            modality: Name of the modality.
            targets: The chosen targets, in table order.
            formats: As :func:`~esp_medsam.io.output_formats.formats_for` returns them.
            or_more: Whether a result with more targets is accepted.

        Raises:
            WeightsNotFoundError: If the file of the weights is gone.
        """
        settings = dict(self.settings)
        if self.transforms is not None:
            said = self.transforms.get(modality)
            settings["transforms"] = {} if said is None else {modality: said}
        settings["clean_up"] = {
            target.name: asdict(target.clean_up)
            for target in targets
            if target.clean_up != CleanUp()
        }
        settings["threshold"] = {
            target.name: target.threshold for target in targets if target.threshold != THRESHOLD
        }
        if "dicom-seg" in formats:
            own = ("seg_type", "fixed_uids", "write_empty")
            settings |= {name: getattr(self, name) for name in own}
        kinds = [*formats]
        kinds += ["split_targets"] if self.split_targets else []
        kinds += ["probabilities"] if self.probabilities else []
        return Recipe(
            modality=modality,
            targets=tuple(target.name for target in targets),
            formats=tuple(kinds),
            weights_sha256=self._hash_of_weights(),
            settings=settings,
            or_more=or_more,
        )

    def _seg_options(self, recipe: Recipe) -> SegOptions:
        """Return the options for the DICOM-SEG of a result."""
        # Options that decide whether an object is written, not its content, must not change it.
        apart = ("fixed_uids", "write_empty")
        return SegOptions(
            kind=self.seg_type,
            weights_sha256=recipe.weights_sha256,
            settings={key: recipe.settings[key] for key in recipe.settings if key not in apart},
            fixed=self.fixed_uids,
            write_empty=self.write_empty,
        )

    @property
    def made_with(self) -> dict[str, Any]:
        """What results of any image are made with: weights and settings.

        Raises:
            WeightsNotFoundError: If the file of the weights is gone.
        """
        return {"weights_sha256": self._hash_of_weights(), "settings": dict(self.settings)}

    def _hash_of_weights(self) -> str | None:
        if self.weights_sha256 is None and self.weights is not None:
            try:
                self.weights_sha256 = hash_of_weights(self.weights)
            except OSError as error:
                msg = f"weights must be a readable file; got {self.weights}."
                raise WeightsNotFoundError(msg) from error
        return self.weights_sha256


class Attempt(NamedTuple):
    """What an attempt at a result goes by.

    Attributes:
        fingerprint: Hash of all that decides how it goes: input, recipe, version.
        known: What is known of the record before it is made, named as there.
    """

    fingerprint: str
    known: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ResultPlan:
    """The files of one result, and what they are made with.

    Attributes:
        options: Options shared with other results.
        stem: Common beginning of their paths.
        recipe: What must agree for an existing result to count as this one.
        targets: The chosen targets, in table order.
        seg: How its DICOM-SEG is written.
        files: All files except the picture and the record.
        paths: All files that the result may consist of, the record last.
        record: Path of the record.
    """

    options: ResultPlanner
    stem: Path
    recipe: Recipe
    targets: tuple[Target, ...]
    seg: SegOptions
    files: tuple[OutputFile, ...]
    paths: tuple[Path, ...]
    record: Path

    def attempt(self, files: Sequence[str | Path]) -> Attempt:
        """Return what an attempt at this result goes by.

        Args:
            files: The files of the input; their sizes and times count, their content is not read.

        Raises:
            InputNotFoundError: If the input is gone.
            ReadError: If the system does not tell the state of a file.
        """
        states = [(state.size, state.modified_ns) for state in states_of(files)]
        said = json.dumps([__version__, asdict(self.recipe), states], sort_keys=True, default=str)
        sizes, times = zip(*states, strict=True)
        source = {"bytes": sum(sizes), "modified_ns": max(times)}
        return Attempt(
            hashlib.sha256(said.encode()).hexdigest(),
            {
                "source": source,
                "weights_sha256": self.recipe.weights_sha256,
                "settings": self.recipe.settings,
            },
        )

    def is_done(self, files: Sequence[str | Path]) -> bool:
        """Whether the result exists already.

        Args:
            files: The files of the input.

        Returns:
            False if it must be made, or made again: always with ``overwrite``.

        Raises:
            OutputExistsError: If a result that differs exists.
            OutputError: If it certainly cannot be written; raised before it is made.
            InputNotFoundError: If the input is gone.
        """
        options = self.options
        check_outputs(self.paths, options.output_dir)
        if options.overwrite:
            return False
        # A preview or statistics requested later are no difference: they only do not exist yet.
        is_drawn = not options.preview or any(map(is_ours, previews_of(self.stem)))
        is_whole = is_drawn and (not options.statistics or has_statistics(self.stem))
        return is_done(self.stem, self.recipe, files, verify=options.verify) and is_whole
