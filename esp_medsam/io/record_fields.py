"""Descriptions of the fields of records; the documentation is generated from them."""

from __future__ import annotations

from collections.abc import Mapping


FIELDS: Mapping[tuple[str, ...], str] = {
    ("software",): "`esp-medsam` and its version",
    ("schema",): (
        "2, or 1 in old records (docs/reference/record.md). A record of a later schema is "
        "never kept or replaced without `--overwrite`"
    ),
    ("source.path",): (
        "path of the input, relative to the input root, with `/` as the separator: the file "
        "name for a file that you named directly; the folder of the files for a DICOM volume,"
        " with `.` for the root itself"
    ),
    ("source.files", "source.bytes", "source.modified_ns"): (
        "number of input files, their total size, and the modification time of the newest one"
        " (nanoseconds since 1970), all taken before any file was read"
    ),
    ("source.sha256",): "hash of the input's content, taken before it was read",
    ("modality", "modality_origin", "dicom_modality"): (
        "modality that the image was segmented as; where that came from (`user`, `dicom`, or "
        "`forced` if the user overrode DICOM); modality stated by DICOM"
    ),
    ("volume", "study_uid", "series_uid"): (
        "the name that `--names uid` gives the result of a DICOM volume, and its UIDs; null "
        "for other formats"
    ),
    ("joined",): (
        "what the DICOM files keep apart and the user joined (`--join`): `series`, in which "
        "case `series_uid` is the smallest of the joined UIDs; `frame_of_reference`; "
        "`interleaved`"
    ),
    (
        "targets[].name",
        "targets[].label",
    ): "for each target: its name, and its value in the labelmap",
    ("targets[].confidence",): "mean probability inside its mask; null if the mask is empty",
    ("targets[].expected_dice",): (
        "the Dice that masks with this confidence had on validation images; null if it was "
        "not measured"
    ),
    ("targets[].voxels",): "its voxels in the labelmap",
    ("targets[].ml",): (
        "the volume of these voxels in milliliters; null for pictures and for slices that are"
        " not evenly stacked"
    ),
    ("targets[].slice_jump", "targets[].slice_jump_at"): (
        "how much its mask jumps from slice to slice and back, 0 to 1, and the index, from 0, of "
        "the slice where it does so most (docs/reference/record.md); null for pictures, for a mask "
        "in fewer than three slices, and missing from older records"
    ),
    ("targets[].statistics.voxels", "targets[].statistics.ml", "targets[].statistics.area_mm2"): (
        "with `--statistics`: its size; milliliters for evenly stacked volumes, square millimeters "
        "for pictures whose spacing is known, else null"
    ),
    ("targets[].statistics.box_first", "targets[].statistics.box_last"): (
        "first and last index of the smallest box around it along each axis of the file's array, "
        "from 0; null if it is empty"
    ),
    ("targets[].statistics.centroid", "targets[].statistics.centroid_mm"): (
        "its mean index along these axes, and the same in mm (RAS+); null if it is empty, or "
        "without an affine"
    ),
    ("targets[].statistics.components",): (
        "number of components, which touch by faces, edges or corners"
    ),
    ("targets[].statistics.diameter_mm",): (
        "largest distance between centers of its voxels; null if spacing is not known"
    ),
    (
        "targets[].statistics.mean",
        "targets[].statistics.standard_deviation",
        "targets[].statistics.minimum",
        "targets[].statistics.maximum",
        "targets[].statistics.percentiles",
    ): (
        "its intensities, in the image's `unit`, or as stored; percentiles 5, 25, 50, 75 and 95; "
        "null for color and if it is empty"
    ),
    ("empty",): "whether nothing was found",
    ("formats",): "kinds of output: `dicom-seg`, `nifti`, `png`, `split_targets`, `probabilities`",
    (
        "files[].name",
        "files[].bytes",
        "files[].modified_ns",
        "files[].sha256",
    ): "for each output file: its name, size, modification time and hash",
    ("weights_sha256",): "hash of the weights",
    ("settings",): "everything else that the result depends on",
    ("runtime",): (
        "what computed the network, with its version, such as `eager 2.14.1` for PyTorch; results "
        "of others agree to rounding. Null if that is not known, and missing from older records"
    ),
    ("unit", "unit_origin"): (
        "`HU` or null; where the unit came from: `dicom`, `user` (through `ct_input`), or "
        "`assumed` for CT in a format that states no unit"
    ),
    (
        "intensity_range",
        "spatial_shape",
    ): "values shown as black and white, if they were measured; shape of the outputs",
    ("plane",): (
        "orientation of the segmented slices: `axial`, `coronal` or `sagittal`; null for "
        "pictures and for frames"
    ),
    ("plausibility",): (
        "how far the image is from the images of its modality that the weights were trained "
        "on, where 1 is the limit that few of these exceed; for a volume, the median over its"
        " slices; null if this is not known for the weights"
    ),
    ("warnings",): "warnings from the reader and the network",
}
"""Fields of the record of a segmented image; ``[]`` stands for each entry of a list."""

SEG2NIFTI_FIELDS: Mapping[tuple[str, ...], str] = {
    (
        "source.sop_instance_uid",
        "source.study_uid",
        "source.segmented_series",
    ): "UID of the segmentation, of its study, and of the series that it outlines",
    ("segmentation_type",): "`BINARY`, `FRACTIONAL` or `LABELMAP`",
    ("fractional_type",): "`PROBABILITY` or `OCCUPANCY`; null for the other types",
    ("like",): "last component of the path given as `--like`; null without it",
    ("shape", "affine"): (
        "grid of the outputs: number of voxels along each axis, and the matrix from voxel "
        "index to RAS+ in mm"
    ),
    ("split_segments",): "whether each segment has a file of its own because that was asked for",
    ("segments",): (
        "for each segment: its number, label, algorithm, codes and color as the object states"
        " them, the `file` that holds it, and its number of `voxels`"
    ),
}
"""Further fields of a record of ``seg2nifti``."""
