"""Segment images and volumes slice by slice, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor

from esp_medsam.errors import OptionError, check_one_of
from esp_medsam.image import IMAGE_KEY, SEGMENTATION_KEY, Image, Segmentation, modality_of
from esp_medsam.inferers.calibration import Calibration
from esp_medsam.inferers.device import Placement, device_of
from esp_medsam.inferers.mirroring import Axes, mean_over_mirrors, mirrored
from esp_medsam.inferers.network_output import NetworkOutput, network_output, places_in, runtime_of
from esp_medsam.inferers.plausibility import features_of, implausible
from esp_medsam.inferers.precision import amp_of, has_bfloat16_units
from esp_medsam.inferers.preparation import Slices, View, empty_by_slice
from esp_medsam.inferers.presence import absent_in, empty_absent, presence_threshold_of
from esp_medsam.inferers.repeats import Found, Latest, shown_of
from esp_medsam.inferers.resizing import (
    RESIZE_MODES,
    content_size,
    input_size_of,
    to_content,
    to_input,
)
from esp_medsam.inferers.slice_smoothing import (
    slice_smoothing_of,
    smooth_across_slices,
)
from esp_medsam.inferers.told_apart import CONSTANT, LogitRange, is_constant
from esp_medsam.memory import available_memory, check_fits
from esp_medsam.modality import ModalityTable
from esp_medsam.orientation import PLANES, nearly_otherwise, plane_of
from esp_medsam.transforms.augmentation import mirrors_of
from esp_medsam.transforms.by_modality import ModalityTransforms, check_overrides
from esp_medsam.transforms.label_map import confidence_of


BYTES_PER_PIXEL = 1000
BYTES_PER_TARGET = 40
"""Memory in bytes that the network needs per input pixel in float32, and for each target on top of
that. The total measured was 540 to 810, with either encoder, one and six targets, and inputs of
512 x 512 and 1024 x 1024."""


NOT_MIRRORED = "Flips had no effect: images of {} are never mirrored."
"""Warning about an image of a modality that training does not mirror."""


class SliceWiseInferer(Inferer):
    """Segment images and volumes slice by slice, on their own grid.

    Slices are taken from the volume in its own dtype, one batch at a time. Each is shown as a
    radiologist sees it, scaled to fit the input, normalized and padded; the logits go the same way
    back. A slice that the network would be shown exactly like the one before is not computed again.
    Only uint8 accumulates; no array of the volume's size is ever float.

    The modality, the affine and the measured intensities come from the image's record in the
    meta. Of the network, only ``encode``, ``decode``, ``modalities`` and ``targets`` are used.

    Args:
        table: The modalities and targets of the weights.
        input_size: ``(H, W)`` of the network's input, pixels; ``native`` means each slice's own
            grid, with memory of :data:`BYTES_PER_PIXEL` per pixel (on the CPU, checked beforehand).
        slice_batch: Slices per forward pass; None means one on the CPU, and four elsewhere. If
            memory runs out, it is halved, and then the CPU is used.
        targets: Names of the targets to segment; None means those that are ready.
        resize: ``fit`` keeps the aspect ratio and pads; ``stretch`` fills the input.
        pixel_mean: Subtracted per channel, of values in 0..1.
        pixel_std: Divided by per channel, of values in 0..1.
        amp: Whether to run the network under bfloat16 autocast; never used if the processor would
            only emulate it.
        slice_axis: For volumes, ``axial``, ``coronal`` or ``sagittal`` instead of the rule.
        device: Device to run on; None means where the network's parameters are.
        transforms: Transforms by modality that replace what the shipped weights were trained with.
        presence_threshold: Presence probability, 0 to 1, below which a slice gets no mask of a
            target: its probabilities are 0. Nothing changes if the threshold is 0, or if the
            network has no presence output.
        flips: Whether to average over mirrored views too, for modalities that training mirrored:
            never CT, MRI or radiographs, where left and right have a meaning.
        slice_smoothing: Standard deviation in mm of a Gaussian that smooths the probabilities of a
            volume across its slices; 0 leaves each slice as the network saw it.
        calibration: What was measured with the weights; with None, the plausibility of an image is
            not assessed.

    Attributes:
        on_slices: Called after each batch with the number of slices of the image that are done and
            their total number; None means no calls.

    Raises:
        OptionError: If an option is out of its range.
        DeviceError: If ``device`` names a device that this machine does not have.
    """

    def __init__(
        self,
        *,
        table: ModalityTable,
        input_size: Sequence[int] | str,
        slice_batch: int | None = None,
        targets: Sequence[str] | str | None = None,
        resize: str = "fit",
        pixel_mean: Sequence[float] = (0.485, 0.456, 0.406),
        pixel_std: Sequence[float] = (0.229, 0.224, 0.225),
        amp: bool = False,
        slice_axis: str | None = None,
        device: str | torch.device | None = None,
        transforms: Mapping[str, ModalityTransforms] | None = None,
        presence_threshold: float = 0.5,
        flips: bool = False,
        slice_smoothing: float = 0.0,
        calibration: Calibration | None = None,
    ) -> None:
        super().__init__()
        self.on_slices: Callable[[int, int], None] | None = None
        self.table = table
        self.input_size = input_size_of(input_size)
        self.slice_batch = (
            None if slice_batch is None else _at_least_one("slice_batch", slice_batch)
        )
        self.targets = [targets] if isinstance(targets, str) else targets
        check_one_of("resize", resize, RESIZE_MODES)
        self.resize = resize
        self.pixel_mean = tuple(float(value) for value in pixel_mean)
        self.pixel_std = tuple(float(value) for value in pixel_std)
        if slice_axis is not None:
            check_one_of("slice_axis", slice_axis, sorted(PLANES))
        self.slice_axis = slice_axis
        self.device = None if device is None else device_of(device)
        self.amp = amp and (self.device is None or amp_of(amp, self.device, what="inference"))
        self.transforms = check_overrides(transforms, table.names)
        self.presence_threshold = presence_threshold_of(presence_threshold)
        self.flips = flips
        self.slice_smoothing = slice_smoothing_of(slice_smoothing)
        self.plausibility = None if calibration is None else calibration.plausibility

    def __call__(
        self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> MetaTensor:
        """Return the probability of each target on the grid of ``inputs``.

        Args:
            inputs: MetaTensor ``(B, C, *spatial)`` with two or three spatial axes, C 1 or 3, in its
                own dtype on any device; its meta, plain or batched, holds the image's record.
            network: An object with ``encode``, ``decode``, ``modalities`` and ``targets``.
            args: Unused; part of MONAI's interface.
            kwargs: Unused; part of MONAI's interface.

        Returns:
            ``(B, T, *spatial)`` uint8 on the CPU: 255 times the probability, T the chosen targets
            in the table's order; the meta of ``inputs``, plus the ``Segmentation`` of each image.

        Raises:
            TypeError: If ``inputs`` carries no image record.
            ModalityError: If the network does not have the modality.
            TargetError: If a target is unknown, or the network does not have it.
            NonFiniteError: If the network's output is not finite.
            TooLargeError: If a slice on its own grid would take more memory than is available.
            NetworkOutputError: If the output is the same for all pixels although the pixels differ.
        """
        del args, kwargs
        if not isinstance(inputs, MetaTensor) or IMAGE_KEY not in inputs.meta:
            msg = "inputs must be a MetaTensor that LoadMedicalImaged made; got no image record."
            raise TypeError(msg)
        meta = dict(inputs.meta)
        records = meta[IMAGE_KEY]
        batched = not isinstance(records, Image)
        probabilities, segmentations = [], []
        for pixels, record in zip(
            inputs.as_tensor(), records if batched else [records] * len(inputs), strict=True
        ):
            probability, segmentation = self._segment(pixels, record, network)
            probabilities.append(probability)
            segmentations.append(segmentation)
        # Return the same container as the records': MONAI's decollate splits the two alike.
        meta[SEGMENTATION_KEY] = type(records)(segmentations) if batched else segmentations[0]
        # Unsqueezed, not stacked: a second array of a volume's size would double the memory.
        stacked = probabilities[0][None] if len(probabilities) == 1 else torch.stack(probabilities)
        result = MetaTensor(stacked, meta=meta)
        result.is_batch = inputs.is_batch
        return result

    def input_of(
        self,
        views: Sequence[View],
        spacing: tuple[float, float] | None,
        device: torch.device,
    ) -> tuple[Tensor, list[tuple[int, int]]]:
        """Return the network's input for slices.

        Args:
            views: Slices, as :class:`Slices` prepares them.
            spacing: Distances between rows and between columns in mm; None means they are equal.
            device: Where to compute.

        Returns:
            The input ``(B, 3, H, W)`` on ``device``, scaled, normalized and padded with zeros on
            the right and the bottom, and the size ``(H, W)`` that each slice occupies in it.
        """
        sizes = [content_size(v.size, spacing, self.input_size, self.resize) for v in views]
        # MPS lacks antialiased scaling, which is cheap on the CPU of such a machine.
        scaler = torch.device("cpu") if device.type == "mps" else device
        contents = [
            to_content([view.pixels], size, view.intensity_range, scaler).to(device)
            for view, size in zip(views, sizes, strict=True)
        ]
        whole = self.input_size or (max(h for h, _ in sizes), max(w for _, w in sizes))
        inputs = [to_input(c, whole, self.pixel_mean, self.pixel_std) for c in contents]
        return torch.cat(inputs), sizes

    def _segment(self, pixels: Tensor, record: Image, network: Any) -> tuple[Tensor, Segmentation]:
        """Return one image's probabilities ``(T, *spatial)`` and what to report about them."""
        modality = modality_of(record)
        names = [target.name for target in self.table.select(modality, self.targets)]
        slices = Slices(pixels, record, transforms=self.transforms, slice_axis=self.slice_axis)
        mirrors = mirrors_of(modality) if self.flips else ()
        job = _Job(
            slices,
            record.path,
            *places_in(network, modality, names),
            mirrors,
            LogitRange(names),
            Latest(),
            [],
            [],
        )
        probability = empty_by_slice(slices.display, len(names), pixels.shape[1:])
        placement = Placement(network, self.device, self.slice_batch)
        start, count = 0, len(slices)
        with placement, torch.no_grad():
            while start < count:
                indices = range(start, min(start + placement.slice_batch, count))
                try:
                    batch = self._predict(job, indices, network, placement.device)
                except RuntimeError as error:
                    placement.relieve(error)
                    continue
                for position, one in enumerate(batch):
                    slices.display.put(probability, start + position, one)
                start += len(batch)
                if self.on_slices is not None:
                    self.on_slices(start, count)
        warnings = placement.warnings
        axis = slices.display.slice_axis
        positions = record.grid.positions_along(axis)
        if axis is not None and positions is not None:
            smooth_across_slices(probability, axis, positions, self.slice_smoothing)
        empty_absent(probability, torch.cat(job.absent), axis)  # last: smoothing would refill them
        doubt = nearly_otherwise(record) if self.slice_axis is None else None
        warnings += (doubt,) if doubt else ()
        if self.flips and not mirrors:
            warnings += (NOT_MIRRORED.format(modality),)
        plausibility = float(torch.cat(job.scores).median()) if job.scores else None
        if plausibility is not None and plausibility > 1:
            warnings += (implausible(modality, plausibility),)
        if is_constant(pixels):
            warnings += (CONSTANT,)
        else:
            job.logits.check(record.path)
        return probability, Segmentation(
            targets=tuple(names),
            confidence=tuple(confidence_of(one) for one in probability),
            plane=plane_of(record, slices.display),
            warnings=warnings,
            plausibility=plausibility,
            runtime=runtime_of(network, modality),
        )

    def _predict(self, job: _Job, indices: range, network: Any, device: torch.device) -> Tensor:
        """Return the first slices' probabilities, ``(B, T, rows, columns)`` uint8 on the CPU."""
        views = [job.slices[index] for index in indices]
        if self.input_size is None:
            views = self._together(views, job, device)
        image, sizes = self.input_of(views, job.slices.spacing, device)
        shown = shown_of(image, sizes, views)
        places = job.latest.places(shown)
        new = [index for index, place in enumerate(places) if place not in places[:index] and place]
        computed = None
        if new:
            seen, own_sizes = [views[index] for index in new], [sizes[index] for index in new]
            what = f"{_text_of(indices.start, len(views))} of {job.path}"
            ask = partial(self._output, job=job, what=what, network=network)
            computed = self._computed(job, seen, ask(image[new], own_sizes), ask, device)
        found = job.latest.expanded(computed, places)
        job.latest.keep(shown[-1], found)
        if found.scores is not None:
            job.scores.append(found.scores)
        job.absent.append(found.absent)
        return torch.stack(
            [view.put_back(one) for view, one in zip(views, found.probabilities, strict=True)]
        )

    def _computed(
        self,
        job: _Job,
        views: list[View],
        output: NetworkOutput,
        ask: Callable[..., NetworkOutput],
        device: torch.device,
    ) -> Found:
        """Return what is found in views, from the network's output, and in mirrored ones."""
        scores = self._scores(output, job.name)
        output = output._replace(encoded=None)  # as large as a pass; mirrored views need the memory
        again = (
            ask(*self.input_of(mirrored(views, axes), job.slices.spacing, device))
            for axes in job.mirrors
        )
        shapes = [view.size for view in views]
        probabilities, presence_logits = mean_over_mirrors(output, again, job.mirrors, shapes)
        for content in output.contents():
            job.logits.add(content)
        return Found(probabilities, absent_in(presence_logits, self.presence_threshold), scores)

    def _scores(self, output: NetworkOutput, modality: str) -> Tensor | None:
        """Return how plausible the slices of a batch are; None if nothing was measured for it."""
        if self.plausibility is None or modality not in self.plausibility.centers:
            return None
        features = features_of(output.encoded, output.sizes)
        return self.plausibility.scores(features, modality).cpu()

    def _output(
        self,
        image: Tensor,
        sizes: list[tuple[int, int]],
        *,
        job: _Job,
        what: str,
        network: Any,
    ) -> NetworkOutput:
        """Return the network's output for the input of some slices."""
        return network_output(
            network,
            image,
            sizes,
            modality=job.modality,
            targets=job.places,
            amp=self.amp and has_bfloat16_units(image.device),
            what=what,
        )

    def _together(self, views: list[View], job: _Job, device: torch.device) -> list[View]:
        """Return the first slices: as many as share one size and fit in the CPU's memory.

        Raises:
            TooLargeError: If not even one slice fits.
        """
        spacing = job.slices.spacing
        sizes = [content_size(view.size, spacing, None, self.resize) for view in views]
        alike = next((n for n, size in enumerate(sizes) if size != sizes[0]), len(sizes))
        if device.type != "cpu":
            return views[:alike]
        each = (BYTES_PER_PIXEL + BYTES_PER_TARGET * len(job.places)) * sizes[0][0] * sizes[0][1]
        what = f"a slice of {sizes[0][0]} x {sizes[0][1]} pixels with input_size native"
        check_fits(Path(job.path), each, what)
        return views[: min(alike, max(1, available_memory() // each))]


class _Job(NamedTuple):
    """One image in progress: its slices, its path, and the network's inputs and outputs.

    The network runs again on the slices mirrored along each of ``mirrors``. Batch by batch,
    ``scores`` collects the plausibility of the slices, and ``absent`` which targets they lack.
    """

    slices: Slices
    path: str
    modality: int
    places: list[int]
    mirrors: tuple[Axes, ...]
    logits: LogitRange
    latest: Latest
    scores: list[Tensor]
    absent: list[Tensor]

    @property
    def name(self) -> str:
        """Name of the modality."""
        return modality_of(self.slices.record)


def _text_of(first: int, count: int) -> str:
    """Return some slices in words."""
    return f"slice {first}" if count == 1 else f"slices {first} to {first + count - 1}"


def _at_least_one(name: str, value: int) -> int:
    """Return a checked count."""
    if int(value) != value or value < 1:
        msg = f"{name} must be a whole number of at least 1; got {value}."
        raise OptionError(msg)
    return int(value)
