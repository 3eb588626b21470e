from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from esp_medsam.cli.main import main
from esp_medsam.errors import OptionError
from esp_medsam.inferers.calibration import read_calibration
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.calibrate import Seen, measure_plausibility, sample_items, score_of
from esp_medsam.workflows.datalist import Item, parse_items
from tests.support.networks import save_random_weights


KINDS = {
    ("xray", "a"): (0.0, 0.0),
    ("xray", "b"): (0.0, 6.0),
    ("ct", "c"): (9.0, 0.0),
    ("mri", "d"): (9.0, 9.0),
}
"""Centers of the features that tell sets apart."""


def items(count: int, kinds: list[tuple[str, str]] | None = None) -> list[Item]:
    given = [
        {"image": f"{m}{s}{n}.png", "modality": m, "dataset": s, "labels": {}}
        for m, s in (list(KINDS) if kinds is None else kinds)
        for n in range(count)
    ]
    return list(parse_items(given, "training", Path())[0].values())


def look(item: Item, modality: str | None = None) -> Seen:
    """See what a hash of the name says, around the center of the set."""
    del modality
    random = np.random.default_rng(list(item.image.encode()))
    noise = random.normal(size=(3, 10))
    noise[:, :2] += KINDS[item.modality, item.set_name]
    return Seen(item.set_name, item.modality, torch.from_numpy(noise).float())


class TestMeasurePlausibility:
    def test_few_of_a_modality_s_own_images_and_nearly_all_others_lie_beyond(self) -> None:
        found, scores = measure_plausibility(items(40), items(50), look)  # type: ignore[arg-type]

        assert set(scores) == {"xray", "ct", "mri"}
        own = np.concatenate([scores["xray"], scores["ct"], scores["mri"]])
        assert 0 < (own > 1).mean() < 0.05
        others = [
            score_of(found, look(item), modality)
            for item in items(20)
            for modality in scores
            if modality != item.modality
        ]
        assert np.mean(np.array(others) > 1) > 0.95

    def test_needs_two_sets_to_tell_apart(self) -> None:
        with pytest.raises(OptionError, match=r"at least two.*in training; got 1"):
            measure_plausibility(items(5, [("ct", "c")]), items(5), look)  # type: ignore[arg-type]

    def test_needs_training_images_of_what_it_validates(self) -> None:
        some = items(5, [("xray", "a"), ("xray", "b")])
        with pytest.raises(OptionError, match=r"training images of ct,.*got"):
            measure_plausibility(some, items(5, [("ct", "c")]), look)  # type: ignore[arg-type]


class TestChosen:
    def test_are_at_most_a_hundred_of_a_set_whatever_their_order(
        self, table: ModalityTable
    ) -> None:
        all_of_them = items(150)

        some = sample_items(all_of_them, table)

        assert len(some) == 400
        again = sample_items(all_of_them[::-1], table)
        assert {item.image for item in some} == {item.image for item in again}


class TestCalibrate:
    def test_writes_what_segment_then_says(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        table: ModalityTable,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        save_random_weights(Path("model.pt"), table)
        random = np.random.default_rng(0)
        sections: dict[str, list[dict[str, object]]] = {"training": [], "validation": []}
        for section, listed in sections.items():
            for modality, target, side in (("xray", "lungs", 8), ("dermoscopy", "lesion", 64)):
                for number in range(3):
                    blocks = random.integers(0, 255, (64 // side, 64 // side), np.uint8)
                    pixels = np.kron(blocks, np.ones((side, side), np.uint8))
                    name = f"{section}{modality}{number}.png"
                    PIL.Image.fromarray(pixels).save(name)
                    known = {"labels": {}, "absent": [target]}
                    listed.append({"image": name, "modality": modality, **known})
        Path("d.json").write_text(json.dumps(sections))
        Path("small.yaml").write_text("input_size: [64, 64]\n")
        small = ["--ckpt_path", "model.pt", "--config", "small.yaml", "--device", "cpu"]

        assert main(["calibrate", "d.json", *small]) == 0

        told = capsys.readouterr()
        assert "xray: 0 of 3 validation images beyond the limit" in told.out
        assert "Wrote model.calibration.json." in told.err
        read = read_calibration("model.pt", {})
        assert read is not None
        assert set(read.plausibility.centers) == {"xray", "dermoscopy"}
        assert read.confidence == {}  # fewer masks than a curve is learned from
        asked = ["segment", "validationxray0.png", "out", "--modality", "xray"]
        assert main([*asked, *small]) == 0
        record = json.loads(Path("out/validationxray0_seg.json").read_text())
        assert 0 < record["plausibility"] <= 1
        assert record["targets"][0]["expected_dice"] is None
        Path("large.yaml").write_text("input_size: [96, 96]\n")
        asked[2] = "larger"
        assert main([*asked, *small, "--config", "large.yaml"]) == 0
        record = json.loads(Path("larger/validationxray0_seg.json").read_text())
        assert record["plausibility"] is None  # measured at another size

    @pytest.mark.parametrize(
        ("sections", "said"),
        [
            ({"training": [], "validation": []}, "E_NO_INPUT: datalist must hold at least one"),
            ({"training": [("a.png", "xray")]}, "must have a section 'validation'"),
            (
                {"training": [("a.png", "xray")], "validation": [("gone.png", "xray")]},
                "E_NOT_FOUND: datalist must name existing files; there is none at gone.png",
            ),
            (
                {
                    "training": [("a.png", "xray"), ("b.png", "fundus")],
                    "validation": [("a.png", "xray")],
                },
                "E_OPTION: datalist must have at least two different images",
            ),
        ],
    )
    def test_refuses_what_nothing_can_be_measured_from(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        table: ModalityTable,
        sections: dict[str, list[tuple[str, str]]],
        said: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        save_random_weights(Path("model.pt"), table)
        for name, value in (("a.png", 9), ("b.png", 200)):
            PIL.Image.new("L", (40, 40), value).save(name)
        targets = {"xray": "lungs", "fundus": "vessels"}
        content = {
            section: [
                {"image": name, "modality": m, "labels": {}, "absent": [targets[m]]}
                for name, m in listed
            ]
            for section, listed in sections.items()
        }
        Path("d.json").write_text(json.dumps(content))
        Path("small.yaml").write_text("input_size: [64, 64]\n")
        small = ["--ckpt_path", "model.pt", "--config", "small.yaml", "--device", "cpu"]

        assert main(["calibrate", "d.json", *small]) == 1

        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("E_")]
        assert len(lines) == 1
        assert said in lines[0]
