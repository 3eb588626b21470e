"""train.yaml on three tiny images: one epoch, then weights that inference can load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow

from esp_medsam.errors import explain
from esp_medsam.losses import ReleasedMaskLoss
from esp_medsam.networks.state_dicts import load_checkpoint, load_into
from esp_medsam.workflows.new_bundle import new_bundle
from esp_medsam.workflows.pipeline import build_run
from esp_medsam.workflows.weights import place_weights
from tests.support.pictures import write_datalist, write_labeled
from tests.support.training import build_training


BUNDLE = Path(__file__).parents[2] / "bundle"


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    sections = {}
    for section in ("training", "validation"):
        sections[section] = [
            write_labeled(tmp_path, f"{section}/{modality}", modality, target)
            for modality, target in (
                ("dermoscopy", "lesion"),
                ("xray", "lungs"),
                ("fundus", "vessels"),
            )
        ]
    return write_datalist(tmp_path, **sections)


def workflow(
    datalist: Path, output_dir: Path, *, bundle: Path = BUNDLE, **override: Any
) -> ConfigWorkflow:
    small = {"batch_size": 3, "epochs": 1, "samples_per_epoch": 6, "warmup_steps": 1}
    paths = {"datalist": str(datalist), "output_dir": str(output_dir)}
    return build_training("train.yaml", bundle=bundle, **(paths | small | override))


class TestTrainConfig:
    def test_trains_validates_and_writes_weights_that_fit(
        self, datalist: Path, tmp_path: Path
    ) -> None:
        training = workflow(datalist, tmp_path / "out")
        training.initialize()
        before = {k: v.clone() for k, v in training.network_def.state_dict().items()}

        assert training.check_properties() == []
        training.run()

        weights = load_checkpoint(tmp_path / "out" / "model.pt")
        assert weights["mask_decoder.hypernetwork.fc1.weight"].dtype == torch.float16
        load_into(training.network_def, weights)
        after = training.network_def.state_dict()
        changed = [n for n in before if not torch.equal(before[n].half().float(), after[n].float())]
        assert any("mask_decoder" in name for name in changed)
        assert any(".dermoscopy." in name for name in changed)
        # No image is CT: what CT owns is as it was, but for the rounding to half precision.
        assert [name for name in before if ".ct." in name]
        assert not [name for name in changed if ".ct." in name]
        assert list((tmp_path / "out" / "checkpoints").glob("*.pt"))
        assert list((tmp_path / "out" / "tensorboard").iterdir())
        metric = training.parser.get_parsed_content("validate#evaluator").state.metrics
        assert 0.0 <= metric["val_mean_dice"] <= 1.0

    def test_loss_falls_in_two_epochs(self, datalist: Path, tmp_path: Path) -> None:
        training = workflow(
            datalist, tmp_path / "out", epochs=2, samples_per_epoch=9, val_interval=2
        )
        training.initialize()

        training.run()

        first, last = json.loads((tmp_path / "out" / "history.json").read_text())
        assert last["loss"] < first["loss"]
        drawn = {path.name for path in (tmp_path / "out" / "overlays").iterdir()}
        assert {"fundus-0001.png", "fundus-0002.png"} < drawn  # validated after the second alone

    def test_starts_from_given_weights(self, datalist: Path, tmp_path: Path) -> None:
        first = workflow(datalist, tmp_path / "first")
        first.initialize()
        first.run()

        second = workflow(
            datalist, tmp_path / "second", pretrained=str(tmp_path / "first" / "model.pt")
        )
        second.initialize()

        network = second.parser.get_parsed_content("network")
        weights = load_checkpoint(tmp_path / "first" / "model.pt")
        name = "mask_decoder.hypernetwork.fc1.weight"
        torch.testing.assert_close(network.state_dict()[name], weights[name].float())

    def test_a_bundle_whose_table_says_presence_trains_it_and_segments_with_it(
        self, datalist: Path, tmp_path: Path
    ) -> None:
        table = tmp_path / "targets.yaml"
        shipped = yaml.safe_load((BUNDLE / "configs" / "targets.yaml").read_text(encoding="utf-8"))
        asked = {**shipped, "presence": True, "prompt": "soft"}
        table.write_text(yaml.safe_dump(asked, sort_keys=False), encoding="utf-8")
        new_bundle(tmp_path / "mine", table)
        training = workflow(datalist, tmp_path / "out", bundle=tmp_path / "mine")
        training.initialize()
        training.run()

        network = training.network_def
        assert (network.presence is not None, network.prompt_generator.prompt) == (True, "soft")
        heads = network.presence.heads  # attention begins at zero
        assert heads["xray"]["lungs"].attention.any()
        assert not heads["ct"]["liver"].attention.any()
        (epoch,) = json.loads((tmp_path / "out" / "history.json").read_text())
        kept = {name: value for name, value in epoch["metrics"].items() if "kept" in name}
        assert kept.keys() == {f"present_kept_{m}" for m in ("dermoscopy", "xray", "fundus")}
        assert set(kept.values()) <= {0.0, 1.0}  # of one slice each

        place_weights(tmp_path / "mine", tmp_path / "out" / "model.pt")
        segmentation = build_run(
            tmp_path / "mine",
            dataset_dir=tmp_path / "validation" / "xray.png",
            output_dir=tmp_path / "masks",
            modality="xray",
            input_size=[64, 64],
            presence_threshold=1,  # more than any head says
        )
        segmentation.run()

        record = json.loads((tmp_path / "masks" / "xray_seg.json").read_text())
        assert record["empty"]
        assert record["settings"]["presence_threshold"] == 1.0

    def test_the_weight_of_patch_prompts_is_a_setting(self, datalist: Path, tmp_path: Path) -> None:
        training = workflow(datalist, tmp_path, patch_weight=0.125)
        distilling = build_training(
            *("train.yaml", "distill_modality.yaml"),
            datalist=str(datalist),
            output_dir=str(tmp_path),
            teacher_weights="teacher.pt",
            patch_weight=0.25,
        )

        assert training.parser.get_parsed_content("loss").patch_weight == 0.125
        assert distilling.parser.get_parsed_content("loss").masks.patch_weight == 0.25

    def test_masks_may_have_the_loss_of_the_authors(self, datalist: Path, tmp_path: Path) -> None:
        training = workflow(datalist, tmp_path / "out", mask_loss="released", epochs=2)
        training.initialize()

        training.run()

        loss = training.parser.get_parsed_content("loss")
        assert isinstance(loss.segmentation, ReleasedMaskLoss)
        first, last = json.loads((tmp_path / "out" / "history.json").read_text())
        assert last["loss"] < first["loss"]

    def test_reads_text_as_the_command_line_hands_it_over(
        self, datalist: Path, tmp_path: Path
    ) -> None:
        training = workflow(datalist, tmp_path, amp="false", seed="7", learning_rate="1e-3")

        settings = training.parser.get_parsed_content("settings")

        assert (settings.amp, settings.seed, settings.learning_rate) == (False, 7, 1e-3)

    def test_simulated_clicks_reach_the_decoder(self, datalist: Path, tmp_path: Path) -> None:
        training = workflow(datalist, tmp_path, simulated_clicks=1.0, input_size=[192, 192])
        training.initialize()
        parsed = training.parser.get_parsed_content
        prepare = parsed("train#trainer").prepare_batch

        image, _, modality, options = prepare(next(iter(parsed("train#dataloader"))), "cpu")
        with torch.no_grad():
            clicked = parsed("predict")(image, *modality, **options)
            alone = parsed("predict")(image, *modality, drawn=options["drawn"])

        assert options["patch_prompt"].isnan().any()
        assert not options["patch_prompt"].isnan().all()
        assert not torch.equal(clicked.low_res_logits, alone.low_res_logits)

    def test_refuses_settings_before_any_image_is_read(self, tmp_path: Path) -> None:
        training = workflow(
            tmp_path / "none.json", tmp_path, amp="maybe", num_workers=-1, learning_rate="1e38"
        )

        with pytest.raises(RuntimeError) as caught:  # MONAI's
            training.initialize()

        line = explain(caught.value)
        assert line is not None
        assert line.startswith("E_OPTION: ")
        assert "amp must be auto, true or false; got 'maybe'" in line
        assert "num_workers must be at least 0; got -1" in line
        assert "learning_rate must be at most 1; got '1e38'" in line

    @pytest.mark.parametrize(
        ("setting", "said"),
        [
            ({"frozen": ["encoder.*"]}, "frozen must match names of parameters"),
            ({"pretrained": "none.pt"}, "pretrained must be an existing file"),
            ({"turns": {"mir": 2}}, "turns must name modalities"),
        ],
    )
    def test_refuses_what_the_network_cannot_have_before_any_image_is_read(
        self, tmp_path: Path, setting: dict[str, Any], said: str
    ) -> None:
        training = workflow(tmp_path / "none.json", tmp_path, **setting)

        with pytest.raises(RuntimeError) as caught:  # MONAI's
            training.initialize()

        assert said in str(explain(caught.value))
