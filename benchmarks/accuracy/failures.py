"""Draw what the weights get wrong, on images that ship with scikit-image and pydicom.

python benchmarks/accuracy/failures.py [--out bundle/docs/known_failures.jpg]

All targets are asked for. The sheet belongs to the model card, which says what is wrong in each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pydicom
import skimage
from PIL import Image

import esp_medsam


PICTURES = Path(skimage.__path__[0], "data")
DICOM = Path(pydicom.__path__[0], "data", "test_files")

SHOWN = {
    "fundus": PICTURES / "microaneurysms.png",
    "microscopy": PICTURES / "ihc.png",
    "ct": DICOM / "CT_small.dcm",
    "dermoscopy": PICTURES / "chelsea.png",
    "endoscopy": PICTURES / "astronaut.png",
    "ultrasound": PICTURES / "coins.png",
}
"""Images by the modality that they are said to be."""

COLUMNS, SIDE = 3, 420


def sheet() -> Image.Image:
    """Return the previews side by side, and print warnings."""
    rows = -(-len(SHOWN) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * SIDE, rows * SIDE), "white")
    with esp_medsam.Segmenter(device="cpu") as segmenter:
        for place, (modality, path) in enumerate(SHOWN.items()):
            result = segmenter.segment(path, modality=modality, targets="all")
            print(result, *result.warnings, sep="\n  ")
            small = result.preview().convert("RGB")
            small.thumbnail((SIDE - 8, SIDE - 8))
            page.paste(small, (place % COLUMNS * SIDE + 4, place // COLUMNS * SIDE + 4))
    return page


def main() -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("bundle/docs/known_failures.jpg"))
    asked = parser.parse_args()
    sheet().save(asked.out, quality=88)


if __name__ == "__main__":
    main()
