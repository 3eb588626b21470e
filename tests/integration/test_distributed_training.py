"""Two processes that share a batch, over gloo, against one that has all of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from esp_medsam.errors import OptionError
from esp_medsam.losses import (
    Annotation,
    DistillationLoss,
    PromptedSegmentationLoss,
    TeacherTarget,
)
from esp_medsam.networks import build_product
from esp_medsam.workflows.distributed import join_processes, leave_processes
from esp_medsam.workflows.train import PredictForward
from tests.support.pictures import write_datalist, write_labeled
from tests.support.processes import ROOT


BUNDLE = ROOT / "bundle"
CHILD = """
import runpy, sys
runpy.run_path(sys.argv[1])["in_a_process"](sys.argv[2], int(sys.argv[3]))
"""


def forward_of() -> PredictForward:
    """Return a network of two modalities, the same in every process, batch norms frozen."""
    torch.manual_seed(0)
    targets = {"xray": ["lungs"], "endoscopy": ["polyp", "tool"]}
    choices = {"expert_ratio": 0.1, "presence": True}
    network = build_product({"xray": 1, "endoscopy": 5}, targets, "xray", **choices)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
    return PredictForward(network).train()


def batch() -> tuple[Tensor, Tensor, Annotation]:
    """Return slices of which unevenly much is known: of the two of a process 2, and 3 targets."""
    random = torch.Generator().manual_seed(0)
    image = torch.randn(4, 3, 64, 64, generator=random)
    mask = (torch.rand(4, 2, 64, 64, generator=random) > 0.5).to(torch.uint8)
    known = torch.tensor([[True, False], [True, False], [True, True], [True, False]])
    return image, torch.tensor([1, 1, 5, 5]), Annotation(mask, known)


def gradients(forward: nn.Module, rows: slice, *, distilled: bool = False) -> dict[str, Tensor]:
    image, modality, annotation = batch()
    prediction = forward(image[rows], modality[rows])
    known = annotation.known[rows, : prediction.low_res_logits.shape[1]]
    annotation = Annotation(annotation.mask[rows, : known.shape[1]], known)
    if distilled:
        loss = DistillationLoss(
            mask_weight=1,
            cosine_weight=1,
            soft_label_weight=1,
            prototype_weight=1,
            consistency_weight=1,
        )(prediction, taught(rows, annotation))
    else:
        loss = PromptedSegmentationLoss()(prediction, annotation)
    forward.zero_grad()
    loss.backward()
    names = forward.named_parameters()
    return {n.removeprefix("module."): p.grad for n, p in names if p.grad is not None}


def taught(rows: slice, annotation: Annotation) -> TeacherTarget:
    """Return what a teacher says of slices that fill unevenly much of the input."""
    random = torch.Generator().manual_seed(1)
    content = torch.zeros(4, 1, 64, 64, dtype=torch.bool)
    for place, height in enumerate((64, 16, 40, 24)):
        content[place, :, :height] = True
    embedding = torch.randn(4, 256, 4, 4, generator=random)
    logits, other = (torch.randn(4, 2, 64, 64, generator=random) for _ in range(2))
    return TeacherTarget(
        embedding[rows],
        content[rows],
        logits=logits[rows],
        annotation=annotation,
        other_logits=other[rows],
    )


def in_a_process(folder: str, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    forward = DistributedDataParallel(forward_of(), find_unused_parameters=True)
    own = slice(2 * rank, 2 * rank + 2)
    for distilled in (False, True):
        found = gradients(forward, own, distilled=distilled)
        torch.save({n: g.clone() for n, g in found.items()}, f"{folder}/{rank}-{distilled}.pt")
    leave_processes()


class TestProcesses:
    def test_of_different_modalities_have_the_gradients_of_one_with_the_whole_batch(
        self, tmp_path: Path
    ) -> None:
        command = [sys.executable, "-c", CHILD, __file__, str(tmp_path)]
        found = {**os.environ, "PYTHONPATH": str(ROOT)}
        children = [subprocess.Popen([*command, str(rank)], env=found) for rank in range(2)]
        assert [child.wait() for child in children] == [0, 0]

        for distilled in (False, True):
            whole = gradients(forward_of(), slice(0, 4), distilled=distilled)
            first, second = (
                torch.load(tmp_path / f"{rank}-{distilled}.pt", weights_only=True)
                for rank in (0, 1)
            )
            assert first.keys() == second.keys() == whole.keys()
            for name, gradient in whole.items():
                assert torch.equal(first[name], second[name]), name
                torch.testing.assert_close(first[name], gradient, rtol=1e-5, atol=1e-5, msg=name)

    def test_must_be_started_by_torchrun(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RANK", raising=False)

        with pytest.raises(OptionError, match="must be run by torchrun; the environment lacks R"):
            join_processes()

    @pytest.mark.slow
    def test_train_validate_and_go_on_by_the_overlay(self, pictures: Path) -> None:
        first = launched(pictures, epochs=1)
        both = launched(pictures, epochs=2)

        assert both[:1] == first
        assert [epoch["steps"] for epoch in both] == [2, 4]
        assert 0.0 <= both[1]["metrics"]["val_mean_dice"] <= 1.0
        assert torch.load(pictures / "out/model.pt", weights_only=True)

    @pytest.mark.slow
    def test_fill_a_store_together_and_distill_from_it(self, pictures: Path) -> None:
        held = {"xray": 1, "dermoscopy": 0}
        teacher = build_product(held, {"xray": ["lungs"], "dermoscopy": ["lesion"]})
        torch.save(teacher.state_dict(), pictures / "teacher.pt")
        options = {
            "overlays": ("distill_modality.yaml",),
            "teacher_weights": pictures / "teacher.pt",
            "teacher_input_size": [64, 64],
            "embeddings": pictures / "kept",
            "views": 3,
        }

        launched(pictures, "embed", **options)
        shards = set((pictures / "kept").glob("*.safetensors"))
        (history,) = launched(pictures, epochs=1, **options)

        assert shards
        assert set((pictures / "kept").glob("*.safetensors")) == shards
        assert "val_embedding_similarity" in history["metrics"]

        shutil.rmtree(pictures / "kept")  # what is missing is computed before the first step
        both = launched(pictures, epochs=2, **options)
        assert [epoch["steps"] for epoch in both] == [2, 4]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with four pictures of two modalities, and their datalist."""
    kinds = (("xray", "lungs"), ("dermoscopy", "lesion"))
    items = [write_labeled(tmp_path, name, *kinds[ord(name) % 2]) for name in "abcd"]
    write_datalist(tmp_path, training=items[:2], validation=items[2:])
    return tmp_path


def launched(
    folder: Path, section: str = "run", *, overlays: Sequence[str] = (), **options: Any
) -> list[dict[str, Any]]:
    """Have torchrun start two processes of a training; return its history, if it left one."""
    names = ("train.yaml", *overlays, "multi_gpu_train.yaml")
    options = {
        "config_file": [str(BUNDLE / "configs" / name) for name in names],
        "bundle_root": BUNDLE,
        "datalist": folder / "d.json",
        "output_dir": folder / "out",
        "input_size": [64, 64],
        "batch_size": 4,
        "samples_per_epoch": 8,
        "device": "cpu",
        "warmup_steps": 1,
        **options,
    }
    told = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launch, "--nproc_per_node", "2", "-m", "monai.bundle", "run", section, *told]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    history = folder / "out" / "history.json"
    found: list[dict[str, Any]] = json.loads(history.read_text()) if history.is_file() else []
    return found
