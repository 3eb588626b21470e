"""``esp-medsam distill`` and ``embed``: thin over the overlays, and users' values as data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from esp_medsam.cli.main import main
from esp_medsam.errors import explain
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import build_product
from esp_medsam.workflows.natural_images import natural_table
from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.train_request import read_training


Shown = pytest.CaptureFixture[str]
Run = Callable[..., int]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: ModalityTable) -> Path:
    """A current folder with two pictures, their datalist, and a teacher."""
    monkeypatch.chdir(tmp_path)
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:40] = 255
    PIL.Image.fromarray(mask).save("m.png")
    sections = {}
    for section, value in (("training", 90), ("validation", 110)):
        PIL.Image.fromarray(np.full((48, 64), value, np.uint8) + mask // 2).save(f"{section}.png")
        item = {"modality": "xray", "image": f"{section}.png", "labels": {"lungs": "m.png"}}
        sections[section] = [item]
    Path("d.json").write_text(json.dumps(sections))
    Path("small.yaml").write_text("samples_per_epoch: 2\nwarmup_steps: 1\n")
    torch.manual_seed(3)
    teacher = build_product({"xray": table["xray"].index}, {"xray": ["lungs"]})
    torch.save(teacher.state_dict(), "teacher.pt")
    return tmp_path


SMALL = (
    *("--config", "small.yaml", "--device", "cpu", "--input-size", "64", "--batch-size", "2"),
    *("--teacher-weights", "teacher.pt", "--teacher-input-size", "64"),
)


class TestDistill:
    def test_learns_from_what_embed_kept_and_trains_from_there(
        self, home: Path, capsys: Shown
    ) -> None:
        assert main(["embed", "d.json", "kept", *SMALL, "--views", "2"]) == 0
        shards = sorted(path.name for path in Path("kept").iterdir())
        assert not Path("out").exists()

        options = ["--embeddings", "kept", "--views", "2", "--epochs", "1"]
        assert main(["distill", "d.json", "out", *SMALL, *options]) == 0

        assert sorted(path.name for path in Path("kept").iterdir()) == shards
        history = json.loads(Path("out/history.json").read_text())
        assert "val_embedding_similarity" in history[0]["metrics"]
        further = ["--pretrained", "out/model.pt", "--epochs", "1", *SMALL[:8]]
        assert main(["train", "d.json", "masks", *further]) == 0

    def test_another_teacher_is_refused_what_one_has_kept(self, home: Path, capsys: Shown) -> None:
        assert main(["embed", "d.json", "kept", *SMALL]) == 0
        teacher = torch.load("teacher.pt", weights_only=True)
        teacher["image_encoder.neck.0.weight"] += 1
        torch.save(teacher, "teacher.pt")

        assert main(["embed", "d.json", "kept", *SMALL]) == 1

        assert "embeddings must be of the same teacher; kept was" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--teacher", "dino"), "teacher must be 'sam', 'mobilesam', 'medical' or 'network'"),
            (("--views", "0"), "views must be at least 1; got '0'"),
            (("--teacher-weights", "none.pt"), "E_NO_WEIGHTS"),
            (("--teacher-weights", "$print(1)"), "E_NO_WEIGHTS"),
            (("--embeddings", "."), "embeddings must be an empty folder"),
            (("--trained", "encoder.*"), "trained must match names of parameters"),
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

    def test_the_shared_encoder_learns_from_pictures(self, home: Path) -> None:
        Path("pictures").mkdir()
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), np.uint8)
            PIL.Image.fromarray(pixels).save(f"pictures/{number}.png")
        natural = natural_table()
        torch.save(build_product(natural.indices, natural.target_names).state_dict(), "teacher.pt")
        common = ["--common", "--teacher", "network", *SMALL]

        assert main(["embed", "pictures", "kept", *common]) == 0
        kept = ["--embeddings", "kept", "--epochs", "1"]
        assert main(["distill", "pictures", "out", *common, *kept]) == 0

        assert Path("out/model.pt").is_file()

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
        assert main(["distill", "d.json", "out", *SMALL, *kept]) == 0

    def test_a_rank_that_there_is_not_is_told(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Shown
    ) -> None:
        monkeypatch.setenv("RANK", "4")
        monkeypatch.setenv("WORLD_SIZE", "4")

        assert main(["embed", "d.json", "kept", *SMALL]) == 1

        assert "E_OPTION: RANK must be from 0 and less than WORLD_SIZE" in capsys.readouterr().err

    def test_pictures_that_are_not_there_are_told(self, home: Path, capsys: Shown) -> None:
        assert main(["distill", "nowhere", "out", "--common", *SMALL]) == 1

        assert "images must be a folder or a tar file" in capsys.readouterr().err
