"""The picture of a result in README: a photograph that scikit-image ships, and its vessels.

    python docs/images/example.py

Writes ``example.jpg`` beside this file: the input, and the preview that ``--preview`` draws.
"""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import skimage

import esp_medsam


SIDE = 480
"""Height of each of the two, pixels."""


def main() -> None:
    """Segment, and write the picture."""
    source = Path(skimage.__path__[0]) / "data" / "retina.jpg"
    result = esp_medsam.segment(source, modality="fundus", device="cpu")
    panels = [PIL.Image.open(source).convert("RGB"), result.preview()]
    panels = [panel.resize((panel.width * SIDE // panel.height, SIDE)) for panel in panels]
    sheet = PIL.Image.new("RGB", (sum(panel.width for panel in panels) + 8, SIDE), "white")
    sheet.paste(panels[0], (0, 0))
    sheet.paste(panels[1], (panels[0].width + 8, 0))
    sheet.save(Path(__file__).with_name("example.jpg"), quality=85)


if __name__ == "__main__":
    main()
