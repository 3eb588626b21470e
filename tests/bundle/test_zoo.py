"""What the model zoo's ``verify_bundle`` checks in full mode, on a copy of the bundle.

The zoo runs from the folder above ``models/NAME`` and passes no ``bundle_root``, so nothing here
does. Its limit on large files does not apply: the weights are part of the repository.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import (
    ckpt_export,
    create_workflow,
    onnx_export,
    verify_metadata,
    verify_net_in_out,
)
from PIL import Image as PILImage

from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.weights import network_of_table


REPOSITORY = Path(__file__).parents[2]
NAME = "esp_medsam"

pytestmark = [
    # MONAI finds the schema in place and says that it did not check its hash.
    pytest.mark.filterwarnings("ignore:No hash value provided:UserWarning"),
    # torch's own exporter calls what torch deprecates, and leaves its temporary file open.
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*unclosed file:ResourceWarning"),
]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the bundle as the zoo lays it out; its weights, where there are some."""
    root = tmp_path / "models" / NAME
    shutil.copytree(REPOSITORY / "bundle", root)
    (root / "eval").mkdir(exist_ok=True)
    schema = Path(__file__).parent / "meta_schema_20240725.json"
    shutil.copyfile(schema, root / "eval" / "schema.json")
    monkeypatch.chdir(tmp_path)
    return root


def paths(bundle: Path) -> dict[str, str]:
    return {
        "meta_file": str(bundle / "configs" / "metadata.json"),
        "config_file": str(bundle / "configs" / "inference.yaml"),
    }


class TestZooChecks:
    def test_necessary_and_preferred_files_exist(self, bundle: Path) -> None:
        for name in (
            "LICENSE",
            "configs/metadata.json",
            "configs/inference.yaml",
            "configs/train.yaml",
            "configs/logging.conf",
            "docs/README.md",
            "docs/data_license.txt",
            "models/model.pt",
        ):
            assert (bundle / name).is_file(), name
        assert not list(bundle.glob("large_files.*"))

    def test_version_is_in_the_changelog(self, bundle: Path) -> None:
        metadata = json.loads((bundle / "configs" / "metadata.json").read_text())

        assert metadata["version"] in metadata["changelog"]

    def test_metadata_is_verified(self, bundle: Path) -> None:
        verify_metadata(
            meta_file=paths(bundle)["meta_file"], filepath=str(bundle / "eval" / "schema.json")
        )

    def test_inference_has_every_property(self, bundle: Path) -> None:
        (bundle / "data").mkdir()
        PILImage.fromarray(np.zeros((32, 32), np.uint8)).save(bundle / "data" / "image.png")

        workflow = create_workflow(
            workflow_type="inference",
            bundle_root=str(bundle),
            logging_file=str(bundle / "configs" / "logging.conf"),
            modality="xray",
            device="cpu",
            **paths(bundle),
        )

        assert workflow.check_properties() == []

    def test_network_keeps_what_the_metadata_says(self, bundle: Path) -> None:
        verify_net_in_out(net_id="network_def", device="cpu", **paths(bundle))

    @pytest.mark.slow
    def test_weights_export_as_torchscript_that_gives_the_same_masks(self, bundle: Path) -> None:
        exported = bundle / "models" / "model.ts"

        ckpt_export(
            net_id="network_def",
            filepath=str(exported),
            ckpt_file=str(bundle / "models" / "model.pt"),
            **paths(bundle),
        )

        scripted = torch.jit.load(str(exported)).eval()
        network = _network(bundle)
        image = torch.randn(1, 3, 64, 96)
        with torch.no_grad():
            torch.testing.assert_close(scripted(image), network(image), atol=1e-4, rtol=1e-4)

    @pytest.mark.slow
    def test_weights_export_as_onnx_that_gives_the_same_masks(self, bundle: Path) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        exported = bundle / "models" / "model.onnx"

        onnx_export(
            net_id="network_def",
            filepath=str(exported),
            ckpt_file=str(bundle / "models" / "model.pt"),
            input_shape=[1, 3, 64, 64],
            **paths(bundle),
        )

        session = onnxruntime.InferenceSession(str(exported))
        image = torch.randn(1, 3, 64, 64)
        (logits,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        with torch.no_grad():
            expected = _network(bundle)(image)
        torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-3, rtol=1e-3)


def _network(bundle: Path) -> torch.nn.Module:
    table = ModalityTable.read(bundle / "configs" / "targets.yaml")
    network = network_of_table(table).eval()
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    return network
