"""``esp-medsam distill`` and ``embed``: thin over the overlays, and users' values as data."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from esp_medsam.cli.main import main
from esp_medsam.errors import explain
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import build_product
from esp_medsam.workflows import student_comparison
from esp_medsam.workflows.embeddings import EmbeddingStore
from esp_medsam.workflows.natural_images import Pictures, natural_table
from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.student_comparison import Trained
from esp_medsam.workflows.train_request import read_training
from tests.support.networks import save_random_weights
from tests.support.pictures import write_radiographs


Shown = pytest.CaptureFixture[str]
Run = Callable[..., int]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: ModalityTable) -> Path:
    """A current folder with two pictures, their datalist, and a teacher."""
    monkeypatch.chdir(tmp_path)
    write_radiographs(tmp_path)
    Path("small.yaml").write_text("samples_per_epoch: 2\nwarmup_steps: 1\n")
    torch.manual_seed(3)
    teacher = build_product({"xray": table["xray"].index}, {"xray": ["lungs"]})
    torch.save(teacher.state_dict(), "teacher.pt")
    return tmp_path


@pytest.fixture
def pictures(home: Path) -> Path:
    """A folder with three pictures, in the current folder."""
    folder = home / "pictures"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


SMALL = (
    *("--config", "small.yaml", "--device", "cpu", "--input-size", "64", "--batch-size", "2"),
    *("--teacher-weights", "teacher.pt", "--teacher-input-size", "64"),
)

ALONE = ("--compare-steps", "0")


class TestDistill:
    def test_learns_from_what_embed_kept_and_trains_from_there(
        self, home: Path, capsys: Shown
    ) -> None:
        assert main(["embed", "d.json", "kept", *SMALL, "--views", "2"]) == 0
        shards = sorted(path.name for path in Path("kept").iterdir())
        assert not Path("out").exists()

        options = ["--embeddings", "kept", "--views", "2", "--epochs", "1"]
        assert main(["distill", "d.json", "out", *SMALL, *options, *ALONE]) == 0

        assert sorted(path.name for path in Path("kept").iterdir()) == shards
        history = json.loads(Path("out/history.json").read_text())
        assert "val_embedding_similarity" in history[0]["metrics"]
        further = ["--pretrained", "out/model.pt", "--epochs", "1", *SMALL[:8]]
        assert main(["train", "d.json", "masks", *further]) == 0

    def test_the_other_student_gets_the_time_of_embeddings_that_were_kept_before(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        says = EmbeddingStore._teacher_outputs

        def says_slowly(*given: Any) -> Any:
            time.sleep(2.0)
            return says(*given)

        with monkeypatch.context() as patch:
            patch.setattr(EmbeddingStore, "_teacher_outputs", says_slowly)
            assert main(["embed", "d.json", "kept", *SMALL, "--views", "1"]) == 0
        monkeypatch.setattr(student_comparison, "run_training", lambda _: None)
        monkeypatch.setattr(
            student_comparison.StudentComparison, "_train", lambda *_: Trained(1, 1.0)
        )
        monkeypatch.setattr(student_comparison.StudentComparison, "_scored", lambda _: iter(()))

        options = ["--embeddings", "kept", "--views", "1", "--epochs", "1"]
        assert main(["distill", "d.json", "out", *SMALL, *options]) == 0

        (epoch,) = json.loads(Path("out/history.json").read_text())
        plan = json.loads(Path("out/comparison/plan.json").read_text())
        assert plan["seconds"] > epoch["seconds"] + 2.0

    def test_another_teacher_is_refused_what_one_has_kept(self, home: Path, capsys: Shown) -> None:
        assert main(["embed", "d.json", "kept", *SMALL]) == 0
        teacher = torch.load("teacher.pt", weights_only=True)
        teacher["image_encoder.neck.0.weight"] += 1
        torch.save(teacher, "teacher.pt")

        assert main(["embed", "d.json", "kept", *SMALL]) == 1

        assert "the same teacher; kept was" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--teacher", "dino"), "teacher must be 'sam', 'mobilesam', 'medical' or 'network'"),
            (("--views", "0"), "views must be at least 1; got '0'"),
            (("--teacher-weights", "none.pt"), "E_NOT_FOUND: teacher_weights"),
            (("--teacher-weights", "$print(1)"), "E_NOT_FOUND: teacher_weights"),
            (("--embeddings", "."), "embeddings must be an empty folder"),
            (("--trained", "encoder.*"), "trained must match names of parameters"),
            (
                ("--compare-steps", "-1"),
                "must be auto, or a whole number of at least 0; got '-1'",
            ),
            (("--unseen", "d.json"), "datalist must have a section 'test'"),
            (("--unseen", "none.json"), "E_NOT_FOUND: unseen must be"),
            (("--compare-datalist", "none.json"), "E_NOT_FOUND: compare_datalist"),
        ],
    )
    def test_refuses_what_is_not_so_in_one_line(
        self, home: Path, capsys: Shown, options: tuple[str, ...], said: str
    ) -> None:
        assert main(["distill", "d.json", "out", *SMALL, "--epochs", "1", *options]) == 1

        shown = capsys.readouterr().err
        lines = [line for line in shown.splitlines() if line.startswith("E_")]
        assert len(lines) == 1, shown
        assert said in lines[0]

    def test_the_shared_encoder_learns_from_pictures(self, pictures: Path) -> None:
        save_random_weights(Path("teacher.pt"), natural_table())
        common = ["--common", "--teacher", "network", *SMALL]

        assert main(["embed", "pictures", "kept", *common]) == 0
        kept = ["--embeddings", "kept", "--epochs", "1"]
        assert main(["distill", "pictures", "out", *common, *kept, *ALONE]) == 0

        assert Path("out/model.pt").is_file()

    def test_pictures_are_read_once_and_again_only_if_their_file_changes(
        self, pictures: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save_random_weights(Path("teacher.pt"), natural_table())
        common = ["--common", "--teacher", "network", *SMALL]
        assert main(["embed", "pictures", "kept", *common]) == 0
        read: list[str] = []
        reads = Pictures._read
        monkeypatch.setattr(
            Pictures, "_read", lambda self, one: read.append(one.name) or reads(self, one)
        )
        monkeypatch.delattr("esp_medsam.workflows.distill.TeacherBatches.says")

        assert main(["embed", "pictures", "kept", *common]) == 0
        assert read == []
        os.utime(pictures / "1.png", (1, 1))

        assert main(["embed", "pictures", "kept", *common]) == 0
        assert set(read) == {"1.png"}
        read.clear()
        assert main(["embed", "pictures", "kept", *common]) == 0
        assert read == []

    def test_pictures_are_refused_a_teacher_of_medical_images(
        self, pictures: Path, capsys: Shown
    ) -> None:
        assert main(["embed", "pictures", "kept", "--common", "--teacher", "network", *SMALL]) == 1

        said = "teacher must know the modalities of the images; it knows xray, not natural."
        assert said in capsys.readouterr().err

    def test_a_teacher_around_sam_is_built_from_its_file(self, home: Path) -> None:
        Path("sam.pth").write_bytes(b"no checkpoint")
        asked = {"datalist": "d.json", "output_dir": "out", "sam_weights": "sam.pth"}
        parsed = read_config(read_training(stage="teacher", **asked))

        assert parsed.get_parsed_content("encoder").sam_weights == "sam.pth"
        with pytest.raises(RuntimeError) as caught:
            parsed.get_parsed_content("network_def")
        assert str(explain(caught.value)).startswith("E_CHECKPOINT: sam.pth")

    def test_stray_variables_of_a_scheduler_leave_nothing_out(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "4")

        kept = ["--embeddings", "kept", "--epochs", "1"]
        assert main(["distill", "d.json", "out", *SMALL, *kept, *ALONE]) == 0

    def test_a_rank_that_there_is_not_is_told(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
    ) -> None:
        monkeypatch.setenv("RANK", "4")
        monkeypatch.setenv("WORLD_SIZE", "4")

        assert main(["embed", "d.json", "kept", *SMALL]) == 1

        assert "E_OPTION: RANK must be at least 0" in capsys.readouterr().err

    def test_pictures_that_are_not_there_are_told(self, home: Path, capsys: Shown) -> None:
        assert main(["distill", "nowhere", "out", "--common", *SMALL]) == 1

        assert "images must be an existing folder or tar file" in capsys.readouterr().err


@pytest.fixture
def distilling(home: Path) -> list[str]:
    """A distillation whose students learn masks for two steps."""
    sections = json.loads(Path("d.json").read_text())
    Path("u.json").write_text(json.dumps({"test": sections["validation"]}))
    asked = ["--epochs", "1", "--compare-steps", "2", "--unseen", "u.json"]
    return ["distill", "d.json", "out", *SMALL, *asked]


def steps_of(student: str, run: str = "out") -> int:
    epochs = json.loads(Path(run, "comparison", student, "history.json").read_text())
    return int(epochs[-1]["steps"])


class TestComparison:
    def test_a_student_without_distillation_learns_for_as_long(
        self, distilling: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        assert main(distilling) == 0

        plan = json.loads(Path("out/comparison/plan.json").read_text())
        history = json.loads(Path("out/comparison/distilled/history.json").read_text())
        own = sum(epoch["seconds"] for epoch in history)
        assert steps_of("distilled") == 2
        assert steps_of("masks_alone") == round(2 * (plan["seconds"] + own) / own)
        table = Path("out/comparison/table.txt").read_text().splitlines()
        assert [line.split()[-4:] for line in table if "target" in line]
        assert sum(line.startswith("lungs ") for line in table) == 2  # seen, and not
        assert set(table) <= set(caplog.messages)
        compared = json.loads(Path("out/comparison/unseen_distilled.json").read_text())
        assert compared["comparison"]["differences"][0]["measure"] == "dice"

    def test_the_distilled_student_starts_from_what_was_distilled(
        self, distilling: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[dict[str, Any]] = []
        monkeypatch.setattr(
            student_comparison,
            "read_training",
            lambda *given, **settings: asked.append(settings) or read_training(*given, **settings),
        )
        torch.save(torch.load("teacher.pt", weights_only=True), "start.pt")

        assert main([*distilling, "--pretrained", "start.pt"]) == 0

        assert [Path(settings["pretrained"]).name for settings in asked] == ["model.pt", "start.pt"]

    def test_what_is_done_is_kept_until_the_distillation_is_another(self, home: Path) -> None:
        request = read_training(
            datalist="d.json", output_dir=".", compare_steps=2, stage="modality"
        )
        comparison = read_config(request).get_parsed_content("comparison")
        Path("model.pt").write_bytes(b"distilled")

        first = comparison.plan(steps=9, seconds=60.0)
        Path("comparison/distilled").mkdir()

        assert comparison.plan(steps=9, seconds=0.0) == first == (*first.fixed, 60.0)
        assert Path("comparison/distilled").exists()
        Path("comparison/plan.json").write_text("{")  # damaged, and so no plan
        assert comparison.plan(steps=9, seconds=61.0).seconds == 61.0
        assert not Path("comparison/distilled").exists()
        Path("comparison/distilled").mkdir()
        Path("model.pt").write_bytes(b"distilled further")
        assert comparison.plan(steps=18, seconds=90.0).seconds == 90.0
        assert not Path("comparison/distilled").exists()

    @pytest.mark.parametrize(
        ("epochs", "steps", "seconds", "alone"),
        [(50, 50, 60.0, 110), (60, 61, 60.0, 120), (10, 1000, 1000.0, 2000), (8, 3, 7.0, 10)],
    )
    def test_both_take_as_long_whatever_the_epochs_leave(
        self,
        home: Path,
        monkeypatch: pytest.MonkeyPatch,
        epochs: int,
        steps: int,
        seconds: float,
        alone: int,
    ) -> None:
        def read(_: object, **given: Any) -> dict[str, Any]:
            return given

        def run(given: dict[str, Any]) -> None:  # a second a step
            folder = Path(given["output_dir"])
            folder.mkdir(parents=True)
            batches = given["samples_per_epoch"] // given["batch_size"]
            history = [
                {"steps": batches * (n + 1), "seconds": float(batches)}
                for n in range(given["epochs"])
            ]
            (folder / "history.json").write_text(json.dumps(history))

        monkeypatch.setattr(student_comparison, "read_training", read)
        monkeypatch.setattr(student_comparison, "run_training", run)
        monkeypatch.setattr(student_comparison.StudentComparison, "_scored", lambda self: [])
        asked = {"datalist": "d.json", "output_dir": ".", "epochs": epochs}
        request = read_training(stage="modality", compare_steps=steps, **asked)
        comparison = read_config(request).get_parsed_content("comparison")
        Path("model.pt").write_bytes(b"distilled")
        done = SimpleNamespace(epochs=[{"steps": steps}], seconds=seconds)

        comparison.run(done, SimpleNamespace(seconds=0.0))

        own, longer = steps_of("distilled", "."), steps_of("masks_alone", ".")
        assert own == pytest.approx(steps, rel=0.1)
        assert longer == pytest.approx(seconds + own, rel=0.1)
        assert longer == pytest.approx(alone, rel=0.1)
        table = Path("comparison/table.txt").read_text()
        assert f"masks_alone: {longer} steps on masks" in table
        assert f"distilled: {own} steps on masks" in table

    def test_masks_that_are_not_there_are_told(self, distilling: list[str], capsys: Shown) -> None:
        sections = json.loads(Path("d.json").read_text())
        sections["training"][0] |= {"labels": {}, "absent": ["lungs"]}
        Path("d.json").write_text(json.dumps(sections))

        assert main(distilling) == 1
        assert "compare_steps must be 0 where no item of training has" in capsys.readouterr().err

        assert main([*distilling, "--compare-steps", "auto"]) == 1
        assert "compare_steps must be 0 where no item of training has" in capsys.readouterr().err
        assert main([*distilling, "--compare-steps", "0"]) == 0
        assert not Path("out/comparison").exists()

    def test_students_of_pictures_learn_from_a_datalist(
        self, pictures: Path, capsys: Shown
    ) -> None:
        save_random_weights(Path("teacher.pt"), natural_table())
        common = ["distill", "pictures", "out", "--common", "--teacher", "network", *SMALL]

        assert main([*common, "--epochs", "1"]) == 1
        assert "compare_datalist is not set" in capsys.readouterr().err
        compared = ["--compare-steps", "1", "--compare-datalist", "d.json"]
        assert main([*common, "--epochs", "1", *compared]) == 0

        assert "lungs " in Path("out/comparison/table.txt").read_text()
