"""``esp-medsam add-target``: what it adds, and that all else stays as it was."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from esp_medsam.cli.main import main
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import ESPMedSAM
from esp_medsam.networks.frozen import freeze
from esp_medsam.networks.state_dicts import load_checkpoint
from esp_medsam.workflows.add_targets import addition_request, prepare_addition
from esp_medsam.workflows.additions import read_additions
from esp_medsam.workflows.bundle import find_bundle
from esp_medsam.workflows.weights import load_network, network_of_table, pin_weights
from tests.support.networks import save_random_weights
from tests.support.pictures import save_picture, write_datalist


CODES = """category: {value: "260787004", scheme: SCT, meaning: Physical object}
        type: {value: coin, scheme: 99TOY, meaning: Coin}"""


def additions(folder: Path, modality: str, target: str) -> Path:
    path = folder / "additions.yaml"
    path.write_text(f"modalities:\n  {modality}:\n    targets:\n      {target}:\n        {CODES}\n")
    return path


def write_images(folder: Path, modality: str, target: str) -> Path:
    """Write pictures of a bright disk each, and a datalist of them."""
    rng = np.random.default_rng(0)
    sections: dict[str, list[Any]] = {"training": [], "validation": []}
    for number in range(22):
        row, column = np.ogrid[:64, :64]
        top, left = rng.integers(20, 44, 2)
        disk = (row - top) ** 2 + (column - left) ** 2 < 15**2
        image = rng.integers(40, 90, (64, 64), np.uint8) + 120 * disk.astype(np.uint8)
        save_picture(folder / f"{number}.png", image)
        save_picture(folder / f"{number}_mask.png", disk.astype(np.uint8) * 255)
        labels = {target: f"{number}_mask.png"}
        item = {"image": f"{number}.png", "modality": modality, "labels": labels}
        sections["training" if number < 20 else "validation"].append(item)
    return write_datalist(folder, **sections)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, table: ModalityTable) -> Path:
    """The shipped bundle with random weights."""
    root = tmp_path_factory.mktemp("source") / "bundle"
    shutil.copytree(find_bundle(), root, ignore=shutil.ignore_patterns("models"))
    (root / "models").mkdir()
    save_random_weights(root / "models" / "model.pt", table, seed=5)
    pin_weights(root)
    return root


def quick(folder: Path) -> list[str]:
    """Options of a training of seconds."""
    (folder / "quick.yaml").write_text("input_size: [64, 64]\nsamples_per_epoch: 8\nepochs: 2\n")
    return ["--config", str(folder / "quick.yaml")]


def network_of(bundle: Path) -> ESPMedSAM:
    table = ModalityTable.read(bundle / "configs" / "targets.yaml")
    network = network_of_table(table)
    return load_network(network, bundle / "models" / "model.pt")


def add(source: Path, tmp_path: Path, modality: str, target: str, *options: str) -> int:
    datalist = write_images(tmp_path, modality, target)
    named = ["--targets", str(additions(tmp_path, modality, target)), "--bundle", str(source)]
    return main(
        ["add-target", str(datalist), str(tmp_path / "grown"), *named, *quick(tmp_path), *options]
    )


class Grown(NamedTuple):
    """What one run of the command left."""

    folder: Path
    bundle: Path
    printed: str


@pytest.fixture(scope="module", params=["photo", "xray"], ids=["modality", "target"])
def grown(
    request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> Grown:
    folder = tmp_path_factory.mktemp("added")
    told = io.StringIO()
    with redirect_stdout(told), redirect_stderr(told):
        assert add(source, folder, request.param, "coin") == 0
    return Grown(folder, folder / "grown", told.getvalue())


class TestAddTarget:
    def test_old_weights_stay_to_the_bit_and_old_masks_with_them(
        self, source: Path, grown: Grown
    ) -> None:
        old, new = (load_checkpoint(b / "models/model.pt") for b in (source, grown.bundle))
        assert all(torch.equal(new[name], value) for name, value in old.items())
        assert new.keys() - old.keys()
        before, after = network_of(source), network_of(grown.bundle)
        image = torch.randn(8, 3, 64, 64)
        indices = torch.arange(8)
        with torch.no_grad():
            logits, more = before(image, indices), after(image, indices)
        for row, name in enumerate(before.modalities):
            held = len(before.targets[name])
            torch.testing.assert_close(
                more[row, :held], logits[row, :held], rtol=0, atol=1e-5, msg=name
            )

    def test_loss_falls_in_two_epochs(self, grown: Grown) -> None:
        history = json.loads((grown.folder / "grown-training" / "history.json").read_text())

        first, last = (epoch["loss"] for epoch in history)
        assert last < first

    def test_the_bundle_segments_at_once(self, grown: Grown) -> None:
        (line,) = [
            line for line in grown.printed.splitlines() if "Segment with" in line and "--m" in line
        ]
        asked = line.partition("IN OUT ")[2].split()
        image = grown.folder / "0.png"

        assert main(["segment", str(image), str(grown.folder / "out"), *asked]) == 0
        assert "coin: Dice" in grown.printed

    def test_training_at_another_size_than_the_bundle_segments_at_is_warned_of(
        self, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        datalist = write_images(tmp_path, "xray", "coin")
        grown = tmp_path / "grown"
        origin, added = prepare_addition(
            grown, additions(tmp_path, "xray", "coin"), datalist, source=source
        )
        given = {"datalist": str(datalist), "output_dir": str(tmp_path / "run")}

        addition_request(grown, origin, added, **given)
        assert not caplog.messages
        addition_request(grown, origin, added, **given, input_size=(64, 96))
        assert (
            "input_size should be 448 x 448, at which the bundle segments; got 64 x 96"
            in caplog.text
        )

    def test_its_card_says_what_was_added_to_what(self, grown: Grown) -> None:
        card = (grown.bundle / "docs" / "README.md").read_text(encoding="utf-8")
        assert "| coin | photo | 20 | 2 |" in card or "| coin | xray | 20 | 2 |" in card
        assert "\n### " in card  # the old card, below
        assert "library_name:" not in card  # but not the fields that it begins with
        metadata = json.loads((grown.bundle / "configs" / "metadata.json").read_text())
        assert metadata["changelog"] == {"0.1.0": "Made by esp-medsam add-target"}
        # Pictures of the images stay out of what is handed on.
        assert not [path for path in grown.bundle.rglob("*") if path.suffix in (".html", ".png")]

    def test_goes_on_where_it_was_broken_off_and_refuses_what_is_done(
        self,
        source: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def interrupt(*args: Any, **options: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as broken:
            broken.setattr("esp_medsam.workflows.weights.place_weights", interrupt)
            assert add(source, tmp_path, "photo", "coin") == 130
        assert add(source, tmp_path, "photo", "coin") == 0
        capsys.readouterr()
        assert add(source, tmp_path, "photo", "coin") == 1
        assert "OUT must not hold a finished bundle" in capsys.readouterr().err

    def test_goes_on_after_a_kill_between_weights_and_card(
        self, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*args: Any, **options: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as broken:
            broken.setattr("esp_medsam.cli.add_target.scored", interrupt)
            assert add(source, tmp_path, "photo", "coin") == 130
        assert add(source, tmp_path, "photo", "coin") == 0

        assert "## What was added" in (tmp_path / "grown/docs/README.md").read_text()

    def test_refuses_what_moved_the_old_weights(
        self, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "all.yaml").write_text("frozen: []\n")

        assert add(source, tmp_path, "photo", "coin", "--config", str(tmp_path / "all.yaml")) == 1

        assert "E_OPTION: frozen must match all parameters of the old" in capsys.readouterr().err
        assert not (tmp_path / "grown" / "models").exists()

    def test_a_modality_called_as_a_part_of_the_network_trains_itself_alone(
        self, source: Path, tmp_path: Path
    ) -> None:
        added = read_additions(additions(tmp_path, "neck", "coin"), source / "configs/targets.yaml")
        network = network_of_table(added.table)

        freeze(network, ["*"], added.trained)

        trained = [name for name, p in network.named_parameters() if p.requires_grad]
        assert trained
        assert all(".controllers.neck." in n or ".neck.coin." in n for n in trained)

    def test_refuses_a_datalist_that_shows_something_else(
        self, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        datalist = write_images(tmp_path, "xray", "lungs")
        named = ["--targets", str(additions(tmp_path, "xray", "coin")), "--bundle", str(source)]

        assert main(["add-target", str(datalist), str(tmp_path / "grown"), *named]) == 1

        assert "no labels of xray.coin" in capsys.readouterr().err
        assert not (tmp_path / "grown").exists()

    def test_refuses_a_folder_that_holds_something_else(
        self, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "grown").mkdir()
        (tmp_path / "grown" / "notes.txt").write_text("mine")

        assert add(source, tmp_path, "photo", "coin") == 1

        assert "OUT must be a new or empty folder" in capsys.readouterr().err
        assert [path.name for path in (tmp_path / "grown").iterdir()] == ["notes.txt"]
