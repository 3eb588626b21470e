"""What only a CUDA device shows: reduced precision, memory that runs out, training by DDP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from esp_medsam.grid import Grid
from esp_medsam.image import IMAGE_KEY, Image
from esp_medsam.inferers import SliceWiseInferer
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import ESPMedSAM
from esp_medsam.networks.inference_network import InferenceNetwork
from esp_medsam.runtimes import RUNTIMES, RuntimeNetwork
from esp_medsam.workflows.weights import network_of_table


SPEED = Path(__file__).parents[2] / "benchmarks" / "training_speed.py"

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest) -> ESPMedSAM:
    table: ModalityTable = request.getfixturevalue("table")
    torch.manual_seed(0)
    return network_of_table(table).eval().cuda()


@pytest.fixture
def all_memory() -> Iterator[None]:
    """Give the process the whole of the device's memory back."""
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@torch.no_grad()
def test_bfloat16_agrees_with_float32(network: ESPMedSAM) -> None:
    image = torch.randn(2, 3, 224, 224, device="cuda")
    exact = network(image)

    with torch.autocast("cuda", dtype=torch.bfloat16):
        short = network(image).float()

    assert torch.nn.functional.cosine_similarity(short.flatten(), exact.flatten(), dim=0) > 0.999


def test_where_memory_runs_out_fewer_slices_at_a_time_give_the_same_mask(
    network: ESPMedSAM, table: ModalityTable, all_memory: None
) -> None:
    pixels = torch.rand((1, 64, 64, 16)) * 255
    record = Image(
        path="/data/a.nii.gz",
        name="a",
        modality="mri",
        grid=Grid(shape=(64, 64, 16), affine=np.eye(4)),
        intensity_range=(0.0, 255.0),
    )
    image = MetaTensor(pixels, meta={IMAGE_KEY: record, "space": "RAS"})[None]

    def segment(slices: int) -> torch.Tensor:
        inferer = SliceWiseInferer(
            table=table,
            input_size=(448, 448),
            pixel_mean=(0.485, 0.456, 0.406),
            pixel_std=(0.229, 0.224, 0.225),
            slice_batch=slices,
            device="cuda",
        )
        return inferer(image, network).as_tensor()

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    expected = segment(2)
    needed = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.3 * needed / torch.cuda.mem_get_info()[1])

    assert (segment(16).int() - expected.int()).abs().max() <= 1


@pytest.mark.slow
def test_one_process_of_several_trains_over_nccl() -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "1"]
    options = ["--stages", "4", "--steps", "5", "--batch_size", "2", "--distributed"]

    ended = subprocess.run(
        [*launch, str(SPEED), *options], check=False, capture_output=True, text=True
    )

    assert ended.returncode == 0, ended.stderr
    assert "4 masks, amp true:" in ended.stdout


@pytest.mark.parametrize("name", ["cuda-graph", "tensorrt"])
def test_a_runtime_computes_what_pytorch_does(name: str, table: ModalityTable) -> None:
    if missing := RUNTIMES[name].missing:
        pytest.skip(f"needs {' and '.join(missing)}")
    network = network_of_table(table).eval().cuda()
    used = InferenceNetwork(network, lambda one: RuntimeNetwork(one, RUNTIMES[name]))
    image, modality = torch.randn(2, 3, 224, 224).cuda(), torch.tensor([6, 6]).cuda()

    with torch.no_grad():
        expected = network.predict(image, modality, None, None)
        for _ in range(2):
            found = used.decode(used.encode(image, modality), modality, None, None)

    assert used.runtime_of("ct").startswith(f"{name} ")
    torch.testing.assert_close(found.low_res_logits, expected.low_res_logits, atol=1e-3, rtol=1e-3)
