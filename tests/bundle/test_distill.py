"""The overlays of train.yaml that make a teacher and learn from it, on tiny images."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from esp_medsam.errors import explain
from esp_medsam.modality import ModalityTable
from esp_medsam.networks.esp_medsam import ABSENT_LOGIT
from esp_medsam.networks.state_dicts import load_checkpoint
from esp_medsam.workflows.initial_weights import start_from
from esp_medsam.workflows.natural_images import natural_table
from esp_medsam.workflows.weights import network_of_table
from tests.support.networks import save_random_weights
from tests.support.pictures import rectangle, write_datalist, write_labeled
from tests.support.training import build_training


CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    sections: dict[str, list[Any]] = {}
    for section in ("training", "validation"):
        masks = [rectangle(columns=(20 + 8 * number, 40)) for number in range(2)]
        sections[section] = [
            write_labeled(tmp_path, f"{section}{number}", "dermoscopy", "lesion", mask)
            for number, mask in enumerate(masks)
        ]
    return write_datalist(tmp_path, **sections)


@pytest.fixture
def weights(tmp_path: Path, table: ModalityTable) -> Path:
    return save_random_weights(tmp_path / "teacher.pt", table, seed=3)


def workflow(
    overlay: str, datalist: Path | None, output_dir: Path, **override: Any
) -> ConfigWorkflow:
    over = {"train.yaml": [], "distill_common.yaml": ["distill_modality.yaml", overlay]}
    files = ["train.yaml", *over.get(overlay, [overlay])]
    if datalist is not None:
        override["datalist"] = str(datalist)
    options = {"samples_per_epoch": 8, "epochs": 2, "batch_size": 2, "output_dir": str(output_dir)}
    if overlay.startswith("distill"):
        options["compare_steps"] = 0
    return build_training(*files, warmup_steps=0, average_decay=0.0, **(options | override))


def distillation(
    datalist: Path, weights: Path, output_dir: Path, **override: Any
) -> ConfigWorkflow:
    given = {"teacher_weights": str(weights), "teacher_input_size": [64, 64], **override}
    return workflow("distill_modality.yaml", datalist, output_dir, **given)


def losses(training: ConfigWorkflow) -> list[float]:
    return [epoch["loss"] for epoch in training.parser.get_parsed_content("history").epochs]


class TestDistillModality:
    def test_controllers_approach_the_teacher_and_nothing_else_moves(
        self, datalist: Path, weights: Path, tmp_path: Path
    ) -> None:
        training = distillation(
            datalist,
            weights,
            tmp_path / "out",
            teacher_input_size=[96, 96],
            learning_rate=3e-3,
            epochs=3,
        )
        training.initialize()
        before = {k: v.clone() for k, v in training.network_def.state_dict().items()}

        assert training.check_properties() == []
        training.run()

        history = training.parser.get_parsed_content("history").epochs
        similarity = [epoch["metrics"]["val_embedding_similarity"] for epoch in history]
        assert losses(training)[-1] < losses(training)[0]
        assert similarity[-1] > similarity[0]
        after = training.network_def.state_dict()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed
        assert all(".controllers.dermoscopy." in name for name in changed)
        assert load_checkpoint(tmp_path / "out" / "model.pt").keys() == before.keys()
        page = (tmp_path / "out" / "training.html").read_text(encoding="utf-8")
        assert f"network, {weights}" in page
        assert str(tmp_path / "validation0.png") in page
        assert page.count("Agreement with the teacher in validation") == 2

    def test_trains_the_shared_encoder_too_where_it_is_not_frozen(
        self, datalist: Path, weights: Path, tmp_path: Path
    ) -> None:
        training = distillation(
            datalist,
            weights,
            tmp_path / "out",
            cosine_weight=1.0,
            prototype_weight=0.1,
            frozen=["prompt_generator.*", "modality_query.*", "mask_decoder.*", "high_resolution*"],
        )
        training.initialize()
        before = training.network_def.state_dict()["image_encoder.neck.0.weight"].clone()

        training.run()

        assert losses(training)[-1] < losses(training)[0]
        after = training.network_def.state_dict()["image_encoder.neck.0.weight"]
        assert not torch.equal(before, after)

    def test_kept_embeddings_are_of_the_views_that_the_student_is_shown(
        self, datalist: Path, weights: Path, tmp_path: Path
    ) -> None:
        training = distillation(
            datalist, weights, tmp_path / "out", embeddings=str(tmp_path / "kept"), views=3
        )
        training.initialize()

        training.run()

        parsed = training.parser.get_parsed_content
        assert losses(training)[-1] < losses(training)[0]
        store = parsed("stored").store
        assert len(store) == 2 * 3 + 2
        teacher = parsed("teacher_batches")
        for batch in parsed("train#dataloader"):
            again = teacher.says(batch["image"], batch["modality"]).embedding
            torch.testing.assert_close(
                batch["teacher_embedding"].float(), again, rtol=2e-3, atol=2e-3
            )

    @pytest.mark.parametrize("kept", [False, True])
    def test_learns_the_teacher_s_masks_and_its_own_seen_otherwise(
        self, datalist: Path, weights: Path, tmp_path: Path, kept: bool
    ) -> None:
        training = distillation(
            datalist,
            weights,
            tmp_path / "out",
            embeddings=str(tmp_path / "kept") if kept else "",
            embedding_weight=0,
            mask_weight=0.1,
            soft_label_weight=1,
            temperature=2,
            consistency_weight=0.5,
            frozen=[],
        )
        training.initialize()

        training.run()

        assert losses(training)[-1] < losses(training)[0]
        assert training.parser.get_parsed_content("best").metric == "val_mean_dice"
        assert "val_mean_dice" in training.parser.get_parsed_content("history").epochs[0]["metrics"]
        if kept:
            parsed = training.parser.get_parsed_content
            batch = next(iter(parsed("train#dataloader")))
            said = parsed("teacher_batches").says(batch["image"], batch["modality"])
            logits = batch["teacher_logits"].float()
            torch.testing.assert_close(logits[:, :1], said.logits, rtol=2e-3, atol=2e-3)
            assert (logits[:, 1:] == ABSENT_LOGIT).all()

    @pytest.mark.slow
    def test_tic_learns_from_the_same_teacher_and_masks_from_there(
        self, datalist: Path, weights: Path, tmp_path: Path
    ) -> None:
        tic = {"network_def#image_encoder": "tic"}
        distilling = distillation(
            datalist,
            weights,
            tmp_path / "distilled",
            teacher_input_size=[96, 96],
            trained=["image_encoder.*"],
            **tic,
        )
        distilling.initialize()
        distilling.run()
        training = workflow(
            "train.yaml",
            datalist,
            tmp_path / "masks",
            pretrained=str(tmp_path / "distilled" / "model.pt"),
            **tic,
        )
        training.initialize()
        training.run()

        assert losses(distilling)[-1] < losses(distilling)[0]
        assert losses(training)[-1] < losses(training)[0]
        held = load_checkpoint(tmp_path / "masks" / "model.pt")
        assert any(name.startswith("image_encoder.merges.") for name in held)

    def test_the_second_view_leaves_no_trace_in_the_student(
        self, datalist: Path, weights: Path, tmp_path: Path
    ) -> None:
        training = distillation(datalist, weights, tmp_path / "out", consistency_weight=1)
        training.initialize()
        parsed = training.parser.get_parsed_content
        student, prepare = parsed("predict").train(), parsed("train#trainer").prepare_batch
        before = {name: value.clone() for name, value in student.state_dict().items()}
        modes = [module.training for module in student.modules()]

        image, target, *_ = prepare(next(iter(parsed("train#dataloader"))), "cpu")

        assert target.other_logits.shape[0] == len(image)
        assert not target.other_logits.requires_grad
        padded = ~target.content & (image == 0)
        assert padded.any()
        assert not prepare.changed_view(image, target.content)[padded].any()
        assert modes == [module.training for module in student.modules()]
        for name, value in student.state_dict().items():
            assert torch.equal(value, before[name]), name

    @pytest.fixture
    def embed(self, datalist: Path, weights: Path, tmp_path: Path) -> Callable[[], int]:
        """Return a function that fills the folder ``kept`` and tells how many views it holds."""

        def run() -> int:
            filling = distillation(
                datalist, weights, tmp_path / "out", embeddings=str(tmp_path / "kept")
            )
            filling.run_id = "embed"
            filling.initialize()
            filling.run()
            return len(filling.parser.get_parsed_content("stored").store)

        return run

    def test_embed_alone_fills_the_store_and_a_second_time_asks_no_teacher(
        self, embed: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert embed() == 2 * 4 + 2
        shards = {path.name for path in (tmp_path / "kept").glob("*.safetensors")}
        assert not (tmp_path / "out").exists()

        monkeypatch.delattr("esp_medsam.workflows.distill.TeacherBatches.says")

        assert embed() == 2 * 4 + 2
        assert {path.name for path in (tmp_path / "kept").glob("*.safetensors")} == shards

    def test_two_processes_share_the_work(
        self, embed: Callable[[], int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        kept = []
        for rank in ("0", "1"):
            monkeypatch.setenv("RANK", rank)
            kept.append(embed())
        assert kept[0] < kept[1] == 2 * 4 + 2

    def test_refuses_settings_before_any_image_is_read(
        self, datalist: Path, tmp_path: Path
    ) -> None:
        training = workflow(
            "distill_modality.yaml", datalist, tmp_path, teacher="dino", cosine_weight=-1
        )

        with pytest.raises(RuntimeError) as caught:
            training.initialize()

        line = explain(caught.value)
        assert line is not None
        assert line.startswith("E_OPTION: teacher must be 'sam', 'mobilesam', 'medical' or")
        assert "teacher_weights must be a path; got ''" in line
        assert "cosine_weight must be at least 0; got -1" in line

    @pytest.mark.parametrize(
        ("options", "rule"),
        [
            ({"embedding_weight": 0}, "one of embedding_weight, mask_weight, .* must be greater"),
            (
                {"teacher": "sam", "soft_label_weight": 1},
                "soft_label_weight must be 0 with a teacher that has no targets; got 1",
            ),
        ],
    )
    def test_refuses_losses_that_cannot_be_had(
        self, datalist: Path, weights: Path, tmp_path: Path, options: dict[str, Any], rule: str
    ) -> None:
        training = workflow(
            "distill_modality.yaml", datalist, tmp_path, teacher_weights=str(weights), **options
        )

        with pytest.raises(RuntimeError) as caught:
            training.initialize()

        assert re.search(rule, explain(caught.value) or "")


class TestTrainTeacher:
    def test_trains_all_but_the_encoder_that_it_is_given(
        self, datalist: Path, tmp_path: Path, table: ModalityTable
    ) -> None:
        tiny = {"_target_": "tests.support.tiny_sam.TinySAM"}
        (tmp_path / "sam.pth").write_bytes(b"told apart by its hash")
        training = workflow(
            "train_teacher.yaml",
            datalist,
            tmp_path / "out",
            sam_weights=str(tmp_path / "sam.pth"),
            network_def={
                "_target_": "esp_medsam.networks.builders.build_teacher",
                "encoder": tiny,
                "modalities": "$@table.indices",
                "targets": "$@table.target_names",
            },
            learning_rate=3e-3,
        )
        training.initialize()
        before = {k: v.clone() for k, v in training.network_def.state_dict().items()}

        training.run()

        assert losses(training)[-1] < losses(training)[0]
        after = training.network_def.state_dict()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert not any(name.startswith("image_encoder.encoder.") for name in changed)
        assert "image_encoder.prompts.0.adapter.up.weight" in changed
        assert "image_encoder.prompts.0.tokens.dermoscopy.value" in changed
        assert "image_encoder.prompts.0.tokens.ct.value" not in changed


class TestDistillCommon:
    def test_the_shared_encoder_approaches_the_teacher_and_starts_a_training(
        self, images: Path, tmp_path: Path, table: ModalityTable
    ) -> None:
        save_random_weights(tmp_path / "teacher.pt", natural_table(), seed=4)
        training = workflow(
            "distill_common.yaml",
            None,
            tmp_path / "out",
            images=str(images),
            teacher="network",
            teacher_weights=str(tmp_path / "teacher.pt"),
            teacher_input_size=[64, 64],
            embeddings=str(tmp_path / "kept"),
            learning_rate=3e-3,
            epochs=3,
        )
        training.initialize()

        training.run()

        history = training.parser.get_parsed_content("history").epochs
        similarity = [epoch["metrics"]["val_embedding_similarity"] for epoch in history]
        assert losses(training)[-1] < losses(training)[0]
        assert similarity[-1] > similarity[0]
        student = network_of_table(table)
        start_from(student, tmp_path / "out" / "model.pt")
        learned = load_checkpoint(tmp_path / "out" / "model.pt")
        name = "image_encoder.neck.0.weight"
        assert torch.equal(student.state_dict()[name], learned[name].float())

    def test_refuses_losses_of_masks_before_any_picture_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "teacher.pt").touch()
        training = workflow(
            "distill_common.yaml",
            None,
            tmp_path / "out",
            images=str(tmp_path / "nothing"),
            teacher_weights=str(tmp_path / "teacher.pt"),
            prototype_weight=1,
        )

        with pytest.raises(RuntimeError) as caught:
            training.initialize()

        line = explain(caught.value) or ""
        assert line.startswith("E_OPTION: prototype_weight must be 0 ")
        assert "; got 1" in line
