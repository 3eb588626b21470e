"""Python API: segment one image or many, from files or from memory."""

from __future__ import annotations

import copy
import io
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from esp_medsam.errors import OptionError, own_errors
from esp_medsam.image import size_text
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.bundle import TABLE, find_bundle


if TYPE_CHECKING:  # what needs torch is imported when something is segmented
    import nibabel.spatialimages
    import PIL.Image
    import pydicom
    import SimpleITK

    from esp_medsam.image import Image
    from esp_medsam.io.in_memory import Scratch
    from esp_medsam.io.placing import Placing
    from esp_medsam.workflows.one_image import Segmented
    from esp_medsam.workflows.request import Request


PathLike = str | os.PathLike[str]

Source: TypeAlias = (
    "PathLike | npt.NDArray[Any] | nibabel.spatialimages.SpatialImage | SimpleITK.Image"
    " | pydicom.Dataset | Sequence[pydicom.Dataset]"
)
"""What can be segmented: a path, or an image in memory."""

OF_AN_IMAGE = ("ct_input", "force_modality", "frame", "join", "series", "slice_axis")
"""Keys of ``inference.yaml`` that may be set for each image."""

OF_A_RESULT = (
    *("fixed_uids", "output_format", "overwrite", "preview", "probabilities"),
    *("seg_type", "split_targets", "statistics", "verify", "write_empty"),
)
"""Keys of ``inference.yaml`` that control how a result is saved but do not change it."""


def modalities(bundle: PathLike | None = None) -> ModalityTable:
    """Return the modalities and targets of a bundle; None means the installed one.

    Raises:
        OptionError: If the bundle does not exist.
        TableError: If the bundle's table is not valid.
    """
    return ModalityTable.read(find_bundle(bundle) / TABLE)


def read(
    source: PathLike,
    *,
    modality: str | None = None,
    bundle: PathLike | None = None,
    force_modality: bool = False,
    ct_input: str | None = None,
    series: str | None = None,
    join: Sequence[str] = (),
    frame: int | None = None,
) -> Image:
    """Read an image or volume with all the information in its file.

    Args:
        source: A file, or a folder with the files of a DICOM series.
        modality: Modality of the image; None takes it from DICOM and is refused for other formats.
        bundle: The bundle that defines the modalities; None means the installed one.
        force_modality: Whether ``modality`` overrides what DICOM states.
        ct_input: Unit of the CT values: ``"hu"`` or ``"windowed"``; None takes it from DICOM.
        series: Name or Series Instance UID of the DICOM volume, if there are several.
        join: What DICOM files keep apart and should be joined: ``"series"``,
            ``"frame_of_reference"`` or ``"interleaved"``.
        frame: Index of the volume in a 4-D file, from 0.

    Raises:
        EspMedSamError: If the source cannot be read, or its modality is not settled.
    """
    from esp_medsam.io import read as read_file
    from esp_medsam.io import settle_modality

    table = modalities(bundle)
    if modality is not None:
        table[modality]  # refused before anything is read
    stored = read_file(Path(source), volume=series, join=join, frame=frame)
    return settle_modality(stored, modality, table, force=force_modality, ct_input=ct_input)


def segment(
    source: Source,
    *,
    modality: str | None = None,
    targets: Sequence[str] | str | None = None,
    output: PathLike | None = None,
    affine: npt.ArrayLike | None = None,
    spacing: Sequence[float] | None = None,
    axes: str | None = None,
    name: str = "image",
    **settings: Any,
) -> Result:
    """Segment one image or volume. For many, :class:`Segmenter` reads the weights once.

    Args:
        source: A path, a folder with one DICOM series, a nibabel or SimpleITK image, a pydicom
            dataset or a list of the datasets of a series, or an array: ``(rows, columns)`` or
            ``(rows, columns, 3)`` for a picture, three axes for a volume.
        modality: Modality of the image, such as ``"ct"``; may be omitted only for DICOM.
        targets: Names of targets, or ``"all"``; None means the ready targets of the modality.
        output: Folder to save the result in; None saves nothing.
        affine: For a volume given as an array: ``(4, 4)``, from voxel index to RAS+ in mm.
        spacing: For a volume given as an array, instead of ``affine``: mm between voxels per axis.
        axes: With ``spacing``: the side of the patient that each axis points to, such as ``"LPS"``
            for left, posterior and superior (the others are right, anterior and inferior).
        name: Base name of the outputs of an image in memory, before ``_seg``.
        settings: As for :class:`Segmenter`.

    Raises:
        EspMedSamError: If the source cannot be read, its modality is not settled, or a setting is
            not valid.
    """
    with Segmenter(**settings) as segmenter:
        return segmenter.segment(
            source,
            modality=modality,
            targets=targets,
            output=output,
            affine=affine,
            spacing=spacing,
            axes=axes,
            name=name,
        )


class Segmenter:
    """Segmenter of many images, with weights that are read once.

    Several threads may share a segmenter; it processes their images one at a time.

    Args:
        bundle: Folder of a bundle; None means the installed one.
        config: Overlays, see docs/reference/configs.md.
        trust_config: Whether the overlays, and the configs of a foreign bundle, may run code.
        settings: Keys of ``inference.yaml``, such as ``device``, ``ckpt_path`` or ``ct_input``;
            ``modality`` and ``targets`` are the defaults for images given without them.

    Raises:
        EspMedSamError: If the weights are not usable, or a setting is not valid.
    """

    def __init__(
        self,
        *,
        bundle: PathLike | None = None,
        config: PathLike | Sequence[PathLike] = (),
        trust_config: bool = False,
        **settings: Any,
    ) -> None:
        from esp_medsam.workflows.one_image import read_parts

        if told := [name for name in ("dataset_dir", "output_dir") if name in settings]:
            msg = f"{told[0]} must be left out; pass source and output with each image."
            raise OptionError(msg)
        self._bundle, self._trust_config = bundle, trust_config
        self._overlays = [config] if isinstance(config, str | os.PathLike) else list(config)
        self._saving = {key: settings[key] for key in OF_A_RESULT if key in settings}
        self._settings = {key: settings[key] for key in settings if key not in OF_A_RESULT}
        self._lock = threading.Lock()
        with own_errors():
            self._request(**self._saving)  # refused before the weights are read
            self._parts: dict[str, Any] = read_parts(self._request())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the weights as soon as no image is being segmented with them."""
        with self._lock:
            self._parts = {}

    def segment(
        self,
        source: Source,
        *,
        modality: str | None = None,
        targets: Sequence[str] | str | None = None,
        output: PathLike | None = None,
        affine: npt.ArrayLike | None = None,
        spacing: Sequence[float] | None = None,
        axes: str | None = None,
        name: str = "image",
        **settings: Any,
    ) -> Result:
        """Segment one image or volume; arguments and errors are those of :func:`segment`.

        Settings are the keys of ``inference.yaml`` in :data:`OF_AN_IMAGE`, for this image only.

        Raises:
            OptionError: If the segmenter was closed, or the source holds several images.
        """
        from esp_medsam.io.in_memory import Scratch
        from esp_medsam.io.placing import Placing
        from esp_medsam.workflows.one_image import segment_one

        if others := [name for name in settings if name not in OF_AN_IMAGE]:
            msg = f"settings of an image must be among {', '.join(OF_AN_IMAGE)}; got {others[0]}. "
            raise OptionError(msg + "Pass other keys of inference.yaml to Segmenter.")
        with self._lock, own_errors():
            if not self._parts:
                msg = "The Segmenter must be open; it was closed. Create another one."
                raise OptionError(msg)
            path, scratch = _path_of(source, Placing(affine, spacing, axes), name)
            unsaved = Scratch()  # the pipeline requires a folder, but writes nothing yet
            request = self._request(
                modality=modality,
                targets=targets,
                dataset_dir=str(path),
                output_dir=str(unsaved.path),
                **settings,
            )
            result = Result(segment_one(request, **self._parts), self._saving, scratch)
        if output is not None:
            result.save(output)
        return result

    def _request(self, **given: Any) -> Request:
        from esp_medsam.workflows.request import read_request

        return read_request(
            self._bundle,
            self._overlays,
            trust_config=self._trust_config,
            **{**self._settings, **{key: v for key, v in given.items() if v is not None}},
        )


class Result:
    """The segmentation on the grid of the image; made by :func:`segment`.

    Arrays have the axes of the file: ``(rows, columns)`` for a picture, the three index axes of
    :attr:`affine` for a volume (columns, rows, slices for DICOM). Arrays are read-only, so that
    the saved result is what was segmented. Copy an array to change it.
    """

    def __init__(
        self, made: Segmented, saving: Mapping[str, Any], scratch: Scratch | None = None
    ) -> None:
        self._made = made
        self._saving = dict(saving)
        self._scratch = scratch  # files written for the image, which saving reads again

    @property
    def labelmap(self) -> npt.NDArray[np.uint8]:
        """Labelmap with the values of :attr:`labels`; 0 is background."""
        return _read_only(self._made.labelmap[0].numpy())

    @property
    def probabilities(self) -> dict[str, npt.NDArray[np.uint8]]:
        """For each target, 255 times its probability; its mask is where this is at least 128."""
        probability = _read_only(self._made.probability.numpy())
        return {t.name: probability[place] for place, t in enumerate(self._made.targets)}

    @property
    def affine(self) -> npt.NDArray[np.float64] | None:
        """Affine from voxel index to RAS+ in mm; None for pictures and unevenly stacked slices."""
        affine = self._made.image.grid.affine
        return None if affine is None else affine.copy()

    @property
    def labels(self) -> dict[str, int]:
        """Value of each target in the labelmap."""
        return {target.name: target.label for target in self._made.targets}

    @property
    def confidence(self) -> dict[str, float | None]:
        """Mean probability inside each target's mask; None if the mask is empty."""
        segmentation = self._made.segmentation
        return dict(zip(segmentation.targets, segmentation.confidence, strict=True))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What users should know about the image and the result, one sentence each."""
        return (*self._made.image.warnings, *self._made.segmentation.warnings)

    @property
    def record(self) -> Mapping[str, Any]:
        """How the result was made, see docs/reference/record.md; without files and formats."""
        return copy.deepcopy(self._made.record)

    def save(
        self, folder: PathLike, formats: Sequence[str] | str | None = None, **settings: Any
    ) -> list[Path]:
        """Save the result.

        Args:
            folder: Output folder; created if it does not exist.
            formats: ``auto``, ``nifti``, ``dicom-seg``, ``png``, or several of them; None takes the
                segmenter's ``output_format``, or auto.
            settings: Other keys of ``inference.yaml`` in :data:`OF_A_RESULT`, which override the
                segmenter's.

        Returns:
            The files that were written, the record last.

        Raises:
            OptionError: If a setting is not in :data:`OF_A_RESULT`, as the result exists already.
            EspMedSamError: If a format cannot hold the result, another result exists there, or a
                file cannot be written.
        """
        from esp_medsam.workflows.one_image import save_one

        if others := [name for name in settings if name not in OF_A_RESULT]:
            msg = f"settings of a result must be among {', '.join(OF_A_RESULT)}; got {others[0]}. "
            raise OptionError(msg + "Pass it to Segmenter, and segment again.")
        asked = {**self._saving, **settings}
        if formats is not None:
            asked["output_format"] = formats
        with own_errors():
            return save_one(self._made, output_dir=os.fspath(folder), **asked)

    def preview(self) -> PIL.Image.Image:
        """Return a picture of the image with contours of the masks and a legend."""
        from esp_medsam.workflows.one_image import draw_one

        return draw_one(self._made)

    def _repr_png_(self) -> bytes:
        """Return the preview as PNG, which notebooks show."""
        encoded = io.BytesIO()
        self.preview().save(encoded, format="PNG")
        return encoded.getvalue()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse copies, which would outlive the files that saving reads again."""
        msg = "A Result cannot be copied or pickled; save it, or use its labelmap and affine."
        raise OptionError(msg)

    def __repr__(self) -> str:
        """Return what was found in words."""
        found = ", ".join(
            f"{t['name']} {size_text(t['voxels'], t['ml'])}" for t in self.record["targets"]
        )
        return f"<Result of {self._made.image.name}: {found}>"


def _read_only(array: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    view: npt.NDArray[np.uint8] = array.view()
    view.setflags(write=False)
    return view


def _path_of(source: Source, placing: Placing, name: str) -> tuple[Path, Scratch | None]:
    """Return the path of a source, and the folder it was written to if it was in memory."""
    if isinstance(source, str | os.PathLike):
        if given := placing.given:
            msg = f"{given[0]} must be left out for a file, which states it; got {source}."
            raise OptionError(msg)
        if not os.fspath(source):
            msg = "source must be a path; got an empty string."
            raise OptionError(msg)
        return Path(source), None
    from esp_medsam.io.in_memory import Scratch, write_in_memory

    scratch = Scratch()
    return write_in_memory(source, scratch.path, placing=placing, name=name), scratch
