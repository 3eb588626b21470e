"""A network as a file that needs nothing of this package."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import skimage
import torch

from esp_medsam.errors import (
    EmptyInputError,
    ModalityError,
    OptionError,
    OutputExistsError,
    RuntimeCheckError,
    explain,
)
from esp_medsam.runtimes import export_formats, packages
from esp_medsam.runtimes.export_formats import FORMATS
from esp_medsam.workflows.export import artefact
from esp_medsam.workflows.export.artefact import Exported, export_network
from esp_medsam.workflows.request import read_request


NAME = "esp_medsam_fundus_96x64"


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    with PIL.Image.open(Path(skimage.__path__[0], "data", "retina.jpg")) as picture:
        picture.resize((128, 192)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def export(tmp_path: Path, to: str = "torchscript", **options: Any) -> Exported:
    images = options.pop("images", None)
    given = {"modality": "fundus", "input_size": (96, 64), **options.pop("settings", {})}
    request = read_request(
        dataset_dir=str(images or tmp_path), output_dir=str(tmp_path / "none"), **given
    )
    return export_network(request, tmp_path / "out", to, has_images=images is not None, **options)


def run_page(folder: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the code of a page as it stands, beside a picture."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 12
    (folder / "picture.png").write_bytes(picture.read_bytes())
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(code, names)
    return names


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.parametrize(
    "to",
    [
        "torchscript",
        pytest.param("onnx", marks=pytest.mark.slow),
        pytest.param("openvino", marks=pytest.mark.slow),
    ],
)
def test_the_page_s_code_finds_what_pytorch_does(
    tmp_path: Path, photograph: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    for package in FORMATS[to].packages:
        pytest.importorskip(package)

    made = export(tmp_path, to, images=photograph)

    assert made.path == tmp_path / "out" / f"{NAME}_{to}" / f"{NAME}{FORMATS[to].suffix}"
    assert made.agreement.startswith("on 1 slice or picture, probabilities differ by at most ")
    names = run_page(made.path.parent, photograph, monkeypatch)
    run, graph, _ = artefact._graph_of(
        read_request(
            dataset_dir=str(photograph),
            output_dir=str(tmp_path),
            modality="fundus",
            input_size=(96, 64),
        ),
        "fundus",
        has_images=False,
    )
    mean, deviation = run.inferer.pixel_mean, run.inferer.pixel_std
    image = (torch.from_numpy(names["image"]) - torch.tensor(mean).view(1, 3, 1, 1)) / (
        torch.tensor(deviation).view(1, 3, 1, 1)
    )
    with torch.no_grad():
        expected = graph.network.predict(image, None, None, None).low_res_logits.sigmoid().numpy()
    np.testing.assert_allclose(names["probability"], expected, atol=1e-4)
    assert names["masks"]["vessels"].any()


def test_without_images_a_drawn_picture_is_compared(tmp_path: Path) -> None:
    made = export(tmp_path, settings={"modality": "ct"})

    assert made.agreement.startswith("on a drawn picture, ")
    page = (made.path.parent / "README.md").read_text()
    assert "Hounsfield units from -160 to 240 are 0 to 1" in page
    assert "liver 1" in page
    assert made.agreement in page


def test_what_is_there_is_replaced_as_a_whole_and_only_if_asked(tmp_path: Path) -> None:
    made = export(tmp_path)
    (made.path.parent / "old").write_text("")

    with pytest.raises(OutputExistsError, match=r"must not exist; it does\. Pass `overwrite`"):
        export(tmp_path)
    assert (made.path.parent / "old").exists()

    export(tmp_path, overwrite=True)
    assert sorted(path.name for path in made.path.parent.iterdir()) == [
        "README.md",
        f"{NAME}.ts",
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [made.path.parent.name]


@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_a_file_that_computes_something_else_is_refused_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    kind = FORMATS["torchscript"]

    def read(path: Path) -> export_formats.Run:
        own = kind.read(path)
        return lambda image: [each + np.float32(wrong) for each in own(image)]

    monkeypatch.setattr(artefact, "FORMATS", {"torchscript": replace(kind, read=read)})

    with pytest.raises(RuntimeCheckError, match="The file must compute what PyTorch does; on a dr"):
        export(tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_network_that_cannot_be_converted_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> None:
        msg = "Unsupported fx node alias"
        raise NotImplementedError(msg)

    kind = replace(FORMATS["torchscript"], write=write)
    monkeypatch.setattr(artefact, "FORMATS", {"torchscript": kind})

    with pytest.raises(OptionError, match=r"cannot: NotImplementedError: Unsupported fx node al"):
        export(tmp_path)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_this_machine_cannot_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: Path) -> export_formats.Run:
        msg = "no such device"
        raise RuntimeError(msg)

    kind = replace(FORMATS["torchscript"], read=read)
    monkeypatch.setattr(artefact, "FORMATS", {"torchscript": kind})

    told = "not measured, as this machine cannot run it: no such device"
    assert export(tmp_path).agreement == told


def test_a_model_repository_for_triton_has_the_file_and_its_shapes(tmp_path: Path) -> None:
    made = export(tmp_path, triton=True, settings={"modality": "ct"})

    root = made.path.parent / "triton" / "esp_medsam_ct_96x64"
    assert (root / "1" / "model.pt").read_bytes() == made.path.read_bytes()
    config = (root / "config.pbtxt").read_text()
    assert 'backend: "pytorch"' in config
    assert 'name: "INPUT__0", data_type: TYPE_FP32, dims: [1, 3, 96, 64]' in config
    assert 'name: "OUTPUT__0", data_type: TYPE_FP32, dims: [1, 6, 96, 64]' in config


def test_an_image_that_cannot_be_read_is_not_the_file_s_fault(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    with pytest.raises(RuntimeError, match="applying transform") as caught:  # as MONAI wraps it
        export(tmp_path, images=tmp_path / "in")
    assert "a.png must be" in str(explain(caught.value))
    assert list((tmp_path / "out").iterdir()) == []


def test_images_that_are_all_refused_compare_nothing(tmp_path: Path, photograph: Path) -> None:
    (tmp_path / "in").mkdir()
    for suffix in (".png", ".PNG"):  # results of the two would share a name
        (tmp_path / "in" / f"a{suffix}").write_bytes(photograph.read_bytes())

    with pytest.raises(EmptyInputError, match="images must hold an image that can be compared"):
        export(tmp_path, images=tmp_path / "in")


class TestThePage:
    """What the page says is what the file was exported with."""

    def page(self, tmp_path: Path, **settings: Any) -> str:
        return (export(tmp_path, settings=settings).path.parent / "README.md").read_text()

    def test_of_stretched_slices(self, tmp_path: Path) -> None:
        assert "stretched to this size" in self.page(tmp_path, resize="stretch")

    def test_of_ct_that_was_windowed(self, tmp_path: Path) -> None:
        told = self.page(tmp_path, modality="ct", ct_input="windowed")
        assert "8-bit values of a window" in told
        assert "Hounsfield" not in told

    def test_of_transforms_of_one_s_own(self, tmp_path: Path) -> None:
        told = self.page(tmp_path, transforms={"fundus": {"shown": []}})
        assert "this page does not describe them" in told

    def test_of_another_threshold(self, tmp_path: Path) -> None:
        assert "least = {'vessels': 0.25}" in self.page(tmp_path, threshold=0.25)


class TestIsRefused:
    def test_without_a_modality(self, tmp_path: Path) -> None:
        with pytest.raises(ModalityError, match="modality must be given"):
            export(tmp_path, settings={"modality": None})

    def test_without_the_packages(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packages, "find_spec", lambda _: None)

        with pytest.raises(OptionError, match=r"to onnx needs onnxruntime and .*medsam\[onnx\]"):
            export(tmp_path, "onnx")
        with pytest.raises(OptionError, match="pip install coremltools"):
            export(tmp_path, "coreml")

    def test_a_format_that_triton_does_not_serve(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packages, "find_spec", lambda name: name)

        with pytest.raises(OptionError, match="triton must be left out with `to` coreml"):
            export(tmp_path, "coreml", triton=True)

    def test_without_one_size(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="input_size must be a size"):
            export(tmp_path, settings={"input_size": "native"})
