"""The page beside an exported file, which says how to run it without this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from esp_medsam.modality import Modality
from esp_medsam.version import __version__


_PAGE = """\
# {file}

The network of esp_medsam {version} for {modality}, as {format}.
Research only: not a medical device.

| name | shape | content |
|---|---|---|
| `image` | 1, 3, {height}, {width}, float32 | the slice, 0 to 1 |
| `probability` | 1, {count}, {height}, {width}, float32 | of each target at each pixel: {targets} |
{presence}
- Weights: SHA-256 {weights}
- This file: SHA-256 {sha256}
- Agreement with PyTorch: {agreement}

```python
{code}
```

What the picture has to be: {intensity}
Show slices as a radiologist sees them. {resize}
A target's value in labelmaps: {labels}. Clean-up and other rules of esp_medsam are not in the file.
"""

_PRESENCE = """\
| `presence` | 1, {count}, float32 | that the slice has the target; leave it empty below 0.5 |
"""

_LOAD: Mapping[str, str] = {
    "onnx": """\
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
probability = session.run(None, {{"image": image}})[0]""",
    "openvino": """\
import openvino

precise = {{"INFERENCE_PRECISION_HINT": "f32"}}
model = openvino.Core().compile_model("{file}", "CPU", precise)
probability = model([image])[0]""",
    "torchscript": """\
import torch

with torch.no_grad():
    probability = torch.jit.load("{file}")(torch.from_numpy(image))[0].numpy()""",
    "tensorrt": """\
from polygraphy.backend.trt import TrtRunner, engine_from_bytes

with TrtRunner(engine_from_bytes(open("{file}", "rb").read())) as runner:
    probability = runner.infer({{"image": image}})["probability"]""",
    "coreml": """\
import coremltools

model = coremltools.models.MLModel("{file}")
probability = model.predict({{"image": image}})["probability"]""",
}

_CODE = """\
import numpy as np
from PIL import Image

picture = Image.open("picture.png").convert("RGB").resize(({width}, {height}))
image = np.asarray(picture, np.float32).transpose(2, 0, 1)[None] / 255

{load}
least = {least}
masks = {{name: probability[0, place] >= least[name] for place, name in enumerate(least)}}
"""

_FIT = (
    "esp_medsam keeps the aspect ratio: it scales to fit,\nwith antialiasing, and pads right and "
    "bottom with the color ({mean}); the code above\nstretches instead."
)

_STRETCH = "They are stretched to this size, as by the code above."

_OTHER_TRANSFORMS = (
    "what the transforms make of it that the configuration of this export states for the modality; "
    "this page does not describe them."
)

_DEFAULT = "8-bit RGB divided by 255; gray values in all three channels."

_WINDOWED = "8-bit values of a window divided by 255, the same in all three channels."

_INTENSITY: Mapping[str, str] = {
    "ct": (
        "Hounsfield units from -160 to 240 are 0 to 1 and the rest is clipped, the same in all "
        "three channels."
    ),
    "mri": (
        "the volume's 0.5th to 99.5th percentile of the values above 0 are 0 to 1 and the rest is "
        "clipped, the same in all three channels."
    ),
}


class Shown(NamedTuple):
    """How slices are prepared for a file.

    Attributes:
        mean: Mean of each channel of the training images.
        resize: ``fit`` or ``stretch``.
        has_transforms: Whether the modality has other transforms than its defaults.
        ct_input: Unit of CT values that was stated; None for HU.
    """

    mean: tuple[float, ...]
    resize: str
    has_transforms: bool
    ct_input: str | None

    def intensity(self, modality: str) -> str:
        """Return what values an image must have, in words."""
        if self.has_transforms:
            return _OTHER_TRANSFORMS
        if self.ct_input == "windowed":
            return _WINDOWED
        return _INTENSITY.get(modality, _DEFAULT)


def readme(
    *,
    file: str,
    kind: str,
    modality: Modality,
    size: tuple[int, int],
    shown: Shown,
    has_presence: bool,
    weights: str,
    sha256: str,
    agreement: str,
) -> str:
    """Return the page.

    Args:
        file: Name of the exported file.
        kind: Name of its format.
        modality: What it segments.
        size: ``(H, W)`` of its input.
        shown: How slices are prepared for it.
        has_presence: Whether it has an output for presence.
        weights: Hash of the weights.
        sha256: Hash of the file.
        agreement: How it agrees with PyTorch, in words.
    """
    height, width = size
    names = [target.name for target in modality.targets]
    least = {target.name: target.threshold for target in modality.targets}
    code = _CODE.format(width=width, height=height, least=least, load=_LOAD[kind].format(file=file))
    resize = _STRETCH if shown.resize == "stretch" else _FIT
    return _PAGE.format(
        file=file,
        version=__version__,
        modality=modality.name,
        format=kind,
        height=height,
        width=width,
        count=len(names),
        targets=", ".join(names),
        presence=_PRESENCE.format(count=len(names)) if has_presence else "",
        weights=weights,
        sha256=sha256,
        agreement=agreement,
        code=code.strip(),
        intensity=shown.intensity(modality.name),
        resize=resize.format(mean=", ".join(map(str, shown.mean))),
        labels=", ".join(f"{target.name} {target.label}" for target in modality.targets),
    )
