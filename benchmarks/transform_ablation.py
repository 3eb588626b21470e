"""Effect of each optional transform on Dice: short trainings with and without it, paired by seed.

    python benchmarks/transform_ablation.py DATALIST [--modality endoscopy] [--seeds 2] [--steps 30]

Every run starts from the same weights, the bundle's own by default, sees the same slices in the
same order as its pair, and is scored on the section ``validation`` in the network's input, never
on ``test``. A transform whose mean difference is below zero by more than the spread between seeds
costs Dice, and stays an option; the shipped weights were trained without any. For CT, only images
in HU are used, because the CT transforms refuse others.

Transforms that change nothing on such sets are left out: ``PaddingToAir`` and ``ClipMetal`` act
beyond the window, and ``MeasureWindow`` reads a radiograph's DICOM header.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import mean, stdev

import torch
from monai.transforms import Transform

from esp_medsam import transforms as t
from esp_medsam.losses import PromptedSegmentationLoss
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import ESPMedSAM, build_product
from esp_medsam.networks.state_dicts import load_checkpoint, load_into
from esp_medsam.transforms.by_modality import Measure, ModalityTransforms
from esp_medsam.workflows.bundle import TABLE, WEIGHTS, find_bundle
from esp_medsam.workflows.datalist import Item, read_datalist
from esp_medsam.workflows.read_slices import SliceReader
from esp_medsam.workflows.train import weight_groups
from esp_medsam.workflows.training_data import ModalityBatches, SliceDataset, prepare_batch


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def shown(*transforms: Transform) -> ModalityTransforms:
    """Return a row of the table of transforms that changes slices before the network."""
    return ModalityTransforms(shown=transforms)


def measured(*measures: Measure) -> ModalityTransforms:
    """Return a row of the table of transforms that measures whole images."""
    return ModalityTransforms(measure=measures)


OPTIONS: dict[str, dict[str, ModalityTransforms]] = {
    "ct": {
        "MeasureBody": measured(t.MeasureBody()),
        "TableRemoval": ModalityTransforms(native=[t.TableRemoval()]),
        "Windows, three": ModalityTransforms(native=[t.Windows((t.LUNG, t.SOFT_TISSUE, t.BONE))]),
    },
    "mri": {
        "MeasureBiasField": measured(t.MeasureBiasField()),
        "MeasureZScore": measured(t.MeasureZScore()),
    },
    "dermoscopy": {
        "ShadesOfGray": shown(t.ShadesOfGray()),
        "RemoveHair": shown(t.RemoveHair()),
        "FillDarkCorners": shown(t.FillDarkCorners()),
        "CropDarkRim": shown(t.CropDarkRim()),
    },
    "endoscopy": {
        "CropBlackBorder": shown(t.CropBlackBorder()),
        "SuppressSpecular": shown(t.SuppressSpecular()),
    },
    "ultrasound": {
        "CropToScan": shown(t.CropToScan()),
        "MaskBurnedIn": shown(t.MaskBurnedIn()),
        "ReduceSpeckle": shown(t.ReduceSpeckle()),
        "NormalizeGain": shown(t.NormalizeGain()),
        "SuppressDoppler": shown(t.SuppressDoppler()),
    },
    "xray": {"Clahe": shown(t.Clahe()), "CropCollimation": shown(t.CropCollimation())},
    "fundus": {
        "CropToFieldOfView": shown(t.CropToFieldOfView()),
        "KeepFieldOfView": shown(t.KeepFieldOfView()),
        "SubtractLocalAverage": shown(t.SubtractLocalAverage()),
        "Clahe": shown(t.Clahe()),
    },
    "microscopy": {
        "NormalizeStain": shown(t.NormalizeStain()),
        "ScaleFluorescence": shown(t.ScaleFluorescence()),
    },
}
"""Transforms to try, by modality."""


def dice(network: ESPMedSAM, data: SliceDataset) -> float:
    """Return the mean Dice over the targets that each slice shows, in the network's input."""
    network.eval()
    scores = []
    for index in range(len(data)):
        batch = torch.utils.data.default_collate([data[index]])
        image, annotation, (modality,), _ = prepare_batch(batch, "cpu")
        with torch.no_grad():
            mask = network.predict(image, modality).low_res_logits[0] > 0
        truth = annotation.mask[0, : len(mask)] > 0
        for target in range(len(mask)):
            if truth[target].any():
                both = (mask[target] & truth[target]).sum()
                scores.append(float(2 * both / (mask[target].sum() + truth[target].sum())))
    return mean(scores)


def train(network: ESPMedSAM, data: SliceDataset, *, steps: int, batch: int, seed: int) -> None:
    """Train for a few steps; the same seed gives the same slices."""
    torch.manual_seed(seed)
    for view in data.views.values():
        view.set_random_state(seed)
    loss = PromptedSegmentationLoss()
    optimizer = torch.optim.AdamW(weight_groups(network, 0.05), lr=1e-4)
    network.train()
    for places in ModalityBatches(data, batch_size=batch, samples=steps * batch, seed=seed):
        drawn = torch.utils.data.default_collate([data[place] for place in places])
        image, annotation, (modality,), _ = prepare_batch(drawn, "cpu")
        prediction = network.predict(image, modality)
        rows = prediction.low_res_logits.shape[1]
        kept = annotation.rows(rows)
        optimizer.zero_grad(set_to_none=True)
        loss(prediction, kept).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()


def items_of(items: list[Item], modality: str) -> list[Item]:
    """Return the items of a modality; for CT, only those in HU."""
    return [i for i in items if i.modality == modality and i.ct_input != "windowed"]


def score(
    arguments: argparse.Namespace, modality: str, chosen: ModalityTransforms | None, seed: int
) -> float:
    """Return the validation Dice of one run."""
    bundle = find_bundle(None)
    table = ModalityTable.read(bundle / TABLE)
    data = []
    for section in ("training", "validation"):
        items = read_datalist(arguments.datalist, section)
        mine = items_of(items, modality)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "datalist.json"
            some = mine[:: max(1, len(mine) // arguments.most)]
            path.write_text(
                json.dumps({section: [item.model_dump(exclude_unset=True) for item in some]})
            )
            size = (arguments.size, arguments.size)
            transforms = None if chosen is None else {modality: chosen}
            read = SliceReader(datalist=path, table=table, input_size=size, transforms=transforms)
            data.append(
                SliceDataset(
                    read(section)[section],
                    table=table,
                    input_size=size,
                    pixel_mean=MEAN,
                    pixel_std=STD,
                    random=section == "training",
                )
            )
    network = build_product(table.indices, table.target_names)
    load_into(network, load_checkpoint(arguments.weights or bundle / WEIGHTS))
    train(network, data[0], steps=arguments.steps, batch=arguments.batch, seed=seed)
    return dice(network, data[1])


def main() -> None:
    """Print one line per transform: the mean difference, and the spread between seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datalist", type=Path, help="See docs/reference/datalist.md.")
    parser.add_argument("--modality", choices=sorted(OPTIONS), action="append")
    parser.add_argument("--transform", action="append", help="One by its name; all by default.")
    parser.add_argument("--weights", type=Path, help="What runs start from; the bundle's own.")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--most", type=int, default=50, help="Images of a section, about.")
    arguments = parser.parse_args()
    print("| modality | transform | Dice without | difference | spread between seeds |")
    print("|---|---|---|---|---|", flush=True)
    for modality in arguments.modality or OPTIONS:
        seeds = range(arguments.seeds)
        without = [score(arguments, modality, None, seed) for seed in seeds]
        spread = stdev(without) if len(without) > 1 else float("nan")
        for name, chosen in OPTIONS[modality].items():
            if arguments.transform and name not in arguments.transform:
                continue
            pairs = [
                score(arguments, modality, chosen, seed) - base
                for seed, base in zip(seeds, without, strict=True)
            ]
            row = f"{mean(without):.3f} | {mean(pairs):+.3f} | {spread:.3f}"
            print(f"| {modality} | {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()
