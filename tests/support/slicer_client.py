"""What the module MONAI Label of 3D Slicer does, with the client library that it ships.

It runs in the environment of MONAI Label's server, apart from the tests, and prints JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK
from monailabel.client import MONAILabelClient


Segments = dict[str, npt.NDArray[np.bool_]]


def import_labelmap(file: str, names: list[str]) -> Segments:
    """Return the mask of each segment: the n-th name has the value n, as Slicer imports it."""
    array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(file))
    assert array.ndim == 3, "Slicer shows volumes"
    return {name: array == number for number, name in enumerate(names, start=1)}


def export_labelmap(segments: Segments, like: str, file: Path) -> list[dict[str, Any]]:
    """Write segments, the n-th with the value n, as Slicer exports them; return ``label_info``."""
    merged = np.zeros(next(iter(segments.values())).shape, np.uint8)
    for number, mask in enumerate(segments.values(), start=1):
        merged[mask] = number
    image: Any = SimpleITK.GetImageFromArray(merged)
    image.CopyInformation(SimpleITK.ReadImage(like))
    SimpleITK.WriteImage(image, str(file))
    return [{"name": name, "idx": number} for number, name in enumerate(segments, start=1)]


def correct(url: str, model: str, image: str, folder: Path) -> dict[str, Any]:
    """Segment an image, draw a box of the first target, and save the label."""
    client = MONAILabelClient(url, tmpdir=str(folder), client_id="test")
    labels = client.info()["models"][model]["labels"]
    asked = {"result_extension": ".nrrd", "result_dtype": "uint8"}
    result, told = client.infer(model, image, asked)
    names = told.get("label_names") or labels
    ordered = [name for name, _ in sorted(names.items(), key=lambda item: item[1])]
    segments = import_labelmap(result, ordered)
    sizes = {name: int(mask.sum()) for name, mask in segments.items()}
    segments[ordered[0]][:, :4, :5] = True
    info = export_labelmap(segments, result, folder / "label.nii.gz")
    saved = client.save_label(image, str(folder / "label.nii.gz"), params={"label_info": info})
    stored = client.download_label(image, "final")
    first = np.isin(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(stored)), [1])
    return {
        "found": {name: one["voxels"] for name, one in told["found"].items()},
        "shown": sizes,
        "labels": labels,
        "saved": saved,
        "drawn": int(first[..., :4, :5].sum()),
        "next": client.next_sample("random", {}).get("id"),
    }


if __name__ == "__main__":
    server, named, image_id, scratch = sys.argv[1:]
    done = correct(server, named, image_id, Path(scratch))
    sys.stdout.write(json.dumps(done))
