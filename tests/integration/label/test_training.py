"""Training from clients on MONAI Label's released server, and the choice of what to label."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from esp_medsam.io.weights_record import hash_of_weights
from esp_medsam.workflows.bundle import WEIGHTS
from tests.support.label_server import LabelServer, skip_without_environment
from tests.support.label_studies import copy_bundle, options


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with studies, seven pictures of a bright spot, and a bundle for small images."""
    skip_without_environment()
    home = tmp_path_factory.mktemp("training")
    (home / "studies").mkdir()
    (home / "masks").mkdir()
    rows, columns = np.mgrid[:128, :128]
    random = np.random.default_rng(3)
    for number in range(7):
        row, column = random.integers(40, 90, 2)
        mask = (rows - row) ** 2 + (columns - column) ** 2 < 20**2
        noise = random.normal(0, 8, (128, 128, 3))
        colors = np.where(mask[..., None], (220, 200, 60), (120, 40, 40)) + noise
        picture = PIL.Image.fromarray(colors.clip(0, 255).astype(np.uint8))
        picture.save(home / "studies" / f"scope{number}.png")
        PIL.Image.fromarray(mask.astype(np.uint8)).save(home / "masks" / f"scope{number}.png")
    copy_bundle(home / "bundle", "inference.yaml", "train.yaml")
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[LabelServer]:
    own = ["--modality", "endoscopy", *options(home)]
    server = LabelServer(home / "app", str(home / "studies"), *own)
    server.start()
    yield server
    server.kill()


def save_final(server: LabelServer, home: Path, name: str) -> None:
    with (home / "masks" / f"{name}.png").open("rb") as mask:
        answer = server.ask(
            "PUT",
            f"/datastore/label?image={name}&tag=final",
            files={"label": (f"{name}.png", mask)},
            data={"params": json.dumps({"label_info": [{"name": "polyp", "idx": 1}]})},
        )
    assert answer.status_code == 200, answer.text


def ended(server: LabelServer, kind: str = "train") -> dict[str, Any]:
    """Return the newest task once it has ended."""
    for _ in range(1200):
        task: dict[str, Any] = server.get(f"/{kind}/").json()
        if task["status"] not in ("SUBMITTED", "RUNNING"):
            return task
        time.sleep(0.25)
    pytest.fail("The task does not end.")


def found(server: LabelServer, version: str) -> tuple[str, int]:
    """Return the version that answered, and the size of what it found."""
    params = {"params": json.dumps({"version": version, "targets": "all"})}
    told = server.infer("endoscopy", "scope0", "json", data=params).json()
    return told["version"], told["found"]["polyp"]["voxels"]


class TestTraining:
    """In the order in which a user would do it."""

    @pytest.mark.parametrize(
        ("path", "params", "status", "said"),
        [
            ("/train/ct", {}, 404, "model must be one of endoscopy"),
            ("/train/", {}, 404, "model must be one of endoscopy"),
            ("/train/endoscopy", {}, 422, "at least 2 final labels of endoscopy; there are 0"),
            ("/train/endoscopy", {"epochs": 0}, 422, "epochs must be at least 1; got 0"),
        ],
    )
    def test_what_cannot_be_trained_is_refused_at_once(
        self, server: LabelServer, path: str, params: dict[str, Any], status: int, said: str
    ) -> None:
        answer = server.ask("POST", path, json=params)

        assert answer.status_code == status
        assert said in answer.json()["detail"]

    def test_a_training_adds_a_version_with_its_metrics(
        self, server: LabelServer, home: Path
    ) -> None:
        for number in range(5):
            save_final(server, home, f"scope{number}")

        begun = server.ask("POST", "/train/endoscopy", json={"epochs": 2, "learning_rate": 2e-3})

        assert begun.status_code == 200, begun.text
        task = ended(server)
        assert task["status"] == "DONE", task["details"]
        stats = server.get("/info/").json()["train_stats"]["endoscopy"]
        stated = stats["versions"]["1"]
        assert stated["images"] == {"training": 4, "validation": 1}
        assert set(stated["targets"]["polyp"]) == {"before", "after"}
        assert stats["current"] == ("1" if stated["is_better"] else "shipped")
        assert found(server, "1")[0] == "1"
        assert found(server, "1") != found(server, "shipped")
        options = server.get("/info/").json()["models"]["endoscopy"]["config"]["version"]
        assert options == ["current", "shipped", "1"]

    def test_the_bundle_s_own_weights_stay_as_they_were(self, home: Path) -> None:
        ours, theirs = (
            hash_of_weights(home / folder / WEIGHTS) for folder in ("app/bundle", "bundle")
        )

        assert ours == theirs

    def test_a_training_that_is_stopped_leaves_the_versions_as_they_were(
        self, server: LabelServer, home: Path
    ) -> None:
        before = server.get("/info/").json()["train_stats"]
        server.ask("POST", "/train/endoscopy", json={"epochs": 500})
        run = home / "app" / "training" / "endoscopy" / "run"
        for _ in range(600):
            if list(run.glob("*.pt")):
                break
            time.sleep(0.1)

        server.ask("DELETE", "/train/")

        assert ended(server)["status"] == "STOPPED"
        assert server.get("/info/").json()["train_stats"] == before
        assert found(server, "1")[0] == "1"

    def test_a_server_that_is_killed_keeps_its_versions(
        self, server: LabelServer, home: Path
    ) -> None:
        before = server.get("/info/").json()["train_stats"]
        server.ask("POST", "/train/endoscopy", json={"epochs": 500})

        server.kill()
        server.start()

        assert server.get("/info/").json()["train_stats"] == before
        assert found(server, "shipped")[0] == "shipped"

    def test_a_version_that_is_not_there_is_refused(self, server: LabelServer) -> None:
        params = {"params": json.dumps({"version": "../bundle"})}

        answer = server.infer("endoscopy", "scope0", "json", data=params)

        assert answer.status_code == 422
        assert "version must be one of current, shipped, 1" in answer.json()["detail"]


class TestNextImage:
    """After the tests above, five of the seven images have labels."""

    def test_is_the_one_of_which_the_network_is_least_sure(
        self, server: LabelServer, home: Path
    ) -> None:
        first = server.ask("POST", "/activelearning/uncertain", json={}).json()
        begun = server.ask("POST", "/scoring/endoscopy")

        assert begun.status_code == 200, begun.text
        task = ended(server, "scoring")
        assert task["status"] == "DONE", task["details"]
        (kept,) = (home / "app" / "scores").glob("*/endoscopy.json")
        scores = json.loads(kept.read_text())
        assert set(scores) == {"scope5", "scope6"}
        assert first["id"] in scores  # none was measured yet
        least_sure = max(scores, key=lambda image: float(scores[image]["uncertainty"]))
        chosen = server.ask("POST", "/activelearning/uncertain", json={}).json()
        assert chosen["id"] == least_sure
        assert chosen["uncertainty"] == scores[least_sure]["uncertainty"]

    def test_scoring_of_a_modality_that_is_not_served_is_refused(self, server: LabelServer) -> None:
        assert server.ask("POST", "/scoring/ct").status_code == 404
