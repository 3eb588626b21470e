"""Pack a datalist and its images, small enough to travel to a machine with an accelerator.

    python benchmarks/accuracy/pack.py DATALIST.json OUT.tar [--side 224] [--quality 60] [--mib 60]

Pictures and label maps of training and validation are scaled so that the longer side is at most
SIDE: pictures of 8 bits as JPEG, others and all maps as PNG. Volumes stay behind, and are counted.
The archive holds a datalist with paths relative to itself.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage.transform import resize


class Packer:
    """Writes scaled copies into an archive, each file once.

    Args:
        archive: Where they go.
        root: Folder that the datalist's paths are relative to.
        side: Pixels that the longer side may have.
        quality: Of JPEG.
    """

    def __init__(self, archive: tarfile.TarFile, root: Path, side: int, quality: int) -> None:
        self.archive, self.root, self.side, self.quality = archive, root, side, quality
        self.names: dict[tuple[str, bool], str] = {}

    def add(self, name: str, content: bytes) -> None:
        """Write a file of the archive."""
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self.archive.addfile(member, io.BytesIO(content))

    def packed(self, path: str, *, labels: bool) -> str:
        """Return the name of the copy of a picture, or of a map of labels."""
        key = (path, labels)
        if key not in self.names:
            with Image.open(self.root / path) as image:
                pixels = np.asarray(image)
            small = self._scaled(pixels, labels=labels)
            lossy = small.dtype == np.uint8 and not labels
            self.names[key] = f"{len(self.names):05d}.{'jpg' if lossy else 'png'}"
            encoded = io.BytesIO()
            options = {"format": "JPEG", "quality": self.quality} if lossy else {"format": "PNG"}
            Image.fromarray(small).save(encoded, **options)
            self.add(self.names[key], encoded.getvalue())
        return self.names[key]

    def _scaled(self, pixels: Any, *, labels: bool) -> Any:
        scale = min(1.0, self.side / max(pixels.shape[:2]))
        size = tuple(max(1, round(scale * length)) for length in pixels.shape[:2])
        if scale == 1.0:
            return pixels
        out = resize(
            pixels,
            size + pixels.shape[2:],
            order=0 if labels else 1,
            preserve_range=True,
            anti_aliasing=not labels,
        )
        return np.rint(out).astype(pixels.dtype)

    def item(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return a datalist's item with all its files packed."""
        labels = item["labels"]
        if "path" in labels:
            labels = {**labels, "path": self.packed(labels["path"], labels=True)}
        else:
            labels = {
                target: [self.packed(path, labels=True) for path in paths]
                for target, paths in labels.items()
            }
        packed = {**item, "image": self.packed(item["image"], labels=False), "labels": labels}
        if unknown := item.get("unknown"):
            packed["unknown"] = {**unknown, "path": self.packed(unknown["path"], labels=True)}
        return packed


def main() -> None:
    """Write the archive, and say how large it is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datalist", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--quality", type=int, default=60)
    parser.add_argument("--mib", type=float, default=60.0)
    asked = parser.parse_args()
    datalist = json.loads(asked.datalist.read_text(encoding="utf-8"))
    sections: dict[str, list[dict[str, Any]]] = {}
    left = 0
    with tarfile.open(asked.out, "w") as archive:
        packer = Packer(archive, asked.datalist.parent, asked.side, asked.quality)
        for section in ("training", "validation"):
            pictures = [item for item in datalist[section] if not item["image"].endswith(".gz")]
            left += len(datalist[section]) - len(pictures)
            sections[section] = [packer.item(item) for item in pictures]
        packer.add("datalist.json", json.dumps(sections).encode())
    mib = asked.out.stat().st_size / 2**20
    counts = ", ".join(f"{len(items)} {section}" for section, items in sections.items())
    print(f"{asked.out}: {counts}, {left} volumes left out, {mib:.1f} MiB")
    if mib > asked.mib:
        sys.exit(f"--mib must be at least {mib:.1f}; got {asked.mib}. Lower --quality or --side.")


if __name__ == "__main__":
    main()
