"""Train every stage for some steps on synthetic pictures: images per second, and peak memory.

    python benchmarks/training_speed.py [--device cuda] [--steps 50] [--input_size 448]
        [--teacher_input_size 448] [--batch_size 10] [--stages 12345] [--processor_time]
        [--distributed]

The weights are random, and the only data are pictures that the script writes. Only steps are timed,
so a teacher whose embeddings are stored does not count. The first fifth of the steps is left out of
the times. On a CPU that also does other work, --processor_time counts the CPU time of the steps,
summed over threads. The medical teacher is SAM's ViT-B; if the package segment-anything is missing,
it is built around the tiny SAM of the tests, and its line says so. The peak of a stage is its own:
memory of the stage before is freed.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow

from esp_medsam.modality import ModalityTable
from esp_medsam.networks import build_product
from esp_medsam.workflows.natural_images import natural_table


CONFIGS = Path(__file__).parents[1] / "bundle" / "configs"

STAGES = {
    "1 shared encoder": ("distill_modality.yaml", "distill_common.yaml"),
    "2 medical teacher": ("train_teacher.yaml",),
    "3 controllers": ("distill_modality.yaml",),
    "3 controllers, embeddings kept": ("distill_modality.yaml",),
    "4 masks": (),
    "5 addition": ("add_modality.yaml",),
}


class StepTimes:
    """Seconds of each step of a trainer, measured with a given clock."""

    def __init__(self, device: str, clock: Callable[[], float]) -> None:
        self.device = device
        self.clock = clock
        self.seconds: list[float] = []
        self._begun = 0.0

    def attach(self, engine: Engine) -> None:
        """Register on the trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end)

    def _now(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return self.clock()

    def _begin(self, engine: Engine) -> None:
        del engine
        self._begun = self._now()

    def _end(self, engine: Engine) -> None:
        del engine
        self.seconds.append(self._now() - self._begun)


def write_inputs(folder: Path, size: int) -> None:
    """Write pictures of disks, their datalist, and random weights for teacher and student."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    rows, columns = np.ogrid[:size, :size]
    items = []
    for number in range(8):
        top, left = rng.integers(size // 4, 3 * size // 4, 2)
        disk = (rows - top) ** 2 + (columns - left) ** 2 < (size // 5) ** 2
        pixels = rng.integers(0, 120, (size, size, 3), np.uint8) + 120 * disk[..., None]
        name = f"images/{number}.png"
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
        PIL.Image.fromarray(disk.astype(np.uint8) * 255).save(folder / f"mask{number}.png")
        labels = {"lesion": f"mask{number}.png"}
        items.append({"image": name, "modality": "dermoscopy", "labels": labels})
    (folder / "datalist.json").write_text(
        json.dumps({"training": items[:6], "validation": items[6:]}), encoding="utf-8"
    )
    for name, table in (("medical", table_of()), ("natural", natural_table())):
        network = build_product(table.indices, table.target_names)
        torch.save(network.state_dict(), folder / f"{name}.pt")


def table_of() -> ModalityTable:
    """Return the shipped table."""
    return ModalityTable.read(CONFIGS / "targets.yaml")


def overrides(stage: str, folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of a stage, beyond those that all stages share."""
    side = asked.teacher_input_size or asked.input_size
    teacher = {"teacher": "network", "teacher_input_size": [side, side]}
    if stage.startswith("1"):
        weights = str(folder / "natural.pt")
        return {**teacher, "teacher_weights": weights, "images": str(folder / "images")}
    datalist = {"datalist": str(folder / "datalist.json")}
    if stage.startswith("2"):
        return {**datalist, **medical_teacher(folder, asked)}
    if stage.startswith("3"):
        kept = {"embeddings": str(folder / "kept"), "views": 2} if "kept" in stage else {}
        return {**datalist, **teacher, **kept, "teacher_weights": str(folder / "medical.pt")}
    if stage.startswith("5"):
        return {**datalist, "trained": ["*.dermoscopy.*"], "pretrained": str(folder / "medical.pt")}
    return datalist


def medical_teacher(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of a teacher around SAM's ViT-B, or the tiny SAM if that is missing."""
    weights = folder / "sam.pth"
    if has_sam():
        from segment_anything import sam_model_registry

        torch.save(sam_model_registry["vit_b"]().state_dict(), weights)
        return {"sam_weights": str(weights)}
    weights.write_bytes(b"none")
    sys.path.append(str(CONFIGS.parents[1]))  # the tests are not installed
    encoder = {"_target_": "tests.support.tiny_sam.TinySAM", "grid": asked.input_size // 16}
    return {
        "sam_weights": str(weights),
        "network_def": {
            "_target_": "esp_medsam.networks.builders.build_teacher",
            "encoder": encoder,
            "modalities": "$@table.indices",
            "targets": "$@table.target_names",
        },
    }


def has_sam() -> bool:
    """Whether the package segment-anything is installed."""
    return find_spec("segment_anything") is not None


def measure(stage: str, folder: Path, asked: argparse.Namespace, amp: str) -> str:
    """Train a stage; return a line of the table."""
    further = ["multi_gpu_train.yaml"] if asked.distributed else []
    workflow = ConfigWorkflow(
        config_file=[str(CONFIGS / name) for name in ("train.yaml", *STAGES[stage], *further)],
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(CONFIGS.parent),
        output_dir=str(folder / f"{stage}-{amp}"),
        amp=amp,
        input_size=[asked.input_size, asked.input_size],
        batch_size=asked.batch_size,
        samples_per_epoch=asked.steps * asked.batch_size,
        epochs=1,
        checkpoint_steps=0,
        **({"compare_steps": 0} if "distill_modality.yaml" in STAGES[stage] else {}),
        **({} if asked.distributed else {"device": asked.device}),
        **overrides(stage, folder, asked),
    )
    gc.collect()  # engines and their handlers refer to each other
    if asked.device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    workflow.initialize()
    times = StepTimes(
        asked.device, time.process_time if asked.processor_time else time.perf_counter
    )
    times.attach(workflow.parser.get_parsed_content("train#trainer"))
    workflow.run()
    seconds = statistics.median(times.seconds[asked.steps // 5 :])
    built = f"{stage} (tiny SAM)" if stage.startswith("2") and not has_sam() else stage
    line = f"{built}, amp {amp}: {asked.batch_size / seconds:.1f} images a second"
    if asked.device.startswith("cuda"):
        line += f", {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB at most"
    return line


def main() -> None:
    """Measure all stages and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--input_size", type=int, default=448)
    parser.add_argument("--teacher_input_size", type=int, help="of stages 1 and 3; the student's")
    parser.add_argument("--batch_size", type=int, default=10)
    parser.add_argument("--stages", default="12345", help="such as 34")
    parser.add_argument("--processor_time", action="store_true", help="of a CPU, in place of time")
    parser.add_argument("--distributed", action="store_true", help="under torchrun, by DDP")
    asked = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, asked.input_size)
        for stage in STAGES:
            if stage[0] in asked.stages:
                # With the overlay, a run can join and leave the process group only once.
                for amp in ("true",) if asked.distributed else ("true", "false"):
                    print(measure(stage, folder, asked, amp), flush=True)


if __name__ == "__main__":
    main()
