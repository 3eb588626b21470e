from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.errors import (
    CheckpointError,
    CheckpointMismatchError,
    InputNotFoundError,
    OptionError,
)
from esp_medsam.io.weights_record import TrainedWith
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import ESPMedSAM, build_product
from esp_medsam.networks.esp_medsam import ABSENT_LOGIT
from esp_medsam.networks.sam_checkpoint import SAM_VARIANTS, encoder_entries
from esp_medsam.workflows.teacher import (
    NETWORK_SIZE,
    SAM_MEAN,
    SAM_SIZE,
    SAM_STD,
    load_sam_encoder,
    load_teacher,
    sam_encoder,
)
from esp_medsam.workflows.teacher_network import Teacher, TeacherSays, of_content
from esp_medsam.workflows.weights import network_of_table, record_weights


class Pooling(nn.Module):
    """A network of known answer: what it is given, averaged over cells of 16 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor, modality: Tensor | None) -> TeacherSays:
        self.seen.append(image)
        return TeacherSays(F.avg_pool2d(image, 16) * self.scale)


def pooling(size: tuple[int, int] = (128, 128)) -> Teacher:
    return Teacher(Pooling(), input_size=size, pixel_mean=SAM_MEAN, pixel_std=SAM_STD, name="p")


class TestTeacher:
    def test_normalizes_pads_and_scales_as_it_was_trained(self) -> None:
        teacher = pooling()

        teacher(torch.full((1, 3, 32, 64), 1.0))

        view = teacher.network.seen[0]
        assert view.shape == (1, 3, 128, 128)
        white = (255 - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor(
            [58.395, 57.12, 57.375]
        )
        torch.testing.assert_close(view[0, :, :64], white[:, None, None].expand(3, 64, 128))
        assert not view[0, :, 64:].any()

    def test_gives_the_grid_of_the_image_without_that_of_the_padding(self) -> None:
        embedding = pooling()(torch.full((1, 3, 32, 64), 1.0)).embedding

        assert embedding.shape == (1, 3, 4, 8)
        torch.testing.assert_close(embedding, embedding[..., :1, :1].expand_as(embedding))

    def test_of_an_image_at_its_own_size_it_is_the_encoder(self) -> None:
        teacher, image = pooling(), torch.rand(2, 3, 128, 128)

        embedding = teacher(image).embedding

        normalized = (image - teacher.mean) / teacher.std
        torch.testing.assert_close(embedding, F.avg_pool2d(normalized, 16))

    @pytest.mark.parametrize("size", [(64, 64), (48, 64), (40, 64), (64, 33)])
    def test_a_gradient_lies_where_it_lay_in_the_image(self, size: tuple[int, int]) -> None:
        ramp = torch.linspace(0, 1, size[1]).expand(1, 3, *size)

        embedding = pooling()(ramp).embedding

        there = F.interpolate(ramp, size=embedding.shape[-2:], mode="area")
        there = (there - pooling().mean) / pooling().std
        inner = (..., slice(1, -1), slice(1, -1))
        torch.testing.assert_close(embedding[inner], there[inner], rtol=0, atol=0.08)

    def test_is_frozen_and_stays_in_evaluation_mode(self) -> None:
        teacher = pooling()
        nn.Sequential(teacher).train()

        assert not teacher.training
        assert not teacher.network.training
        assert not any(p.requires_grad for p in teacher.parameters())
        said = teacher(torch.rand(1, 3, 32, 32, requires_grad=True))
        assert not said.embedding.requires_grad

    def test_identity_goes_by_weights_and_by_how_it_takes_images(self) -> None:
        changed = Pooling()
        changed.scale.data.add_(1e-3)
        options = {"pixel_mean": SAM_MEAN, "pixel_std": SAM_STD, "name": "p"}

        other = Teacher(changed, input_size=(128, 128), **options)

        assert pooling().identity == pooling().identity
        assert len({pooling().identity, pooling((64, 64)).identity, other.identity}) == 3


class TestOfContent:
    def test_samples_anew_where_the_image_ends_within_a_cell(self) -> None:
        column = torch.arange(8.0).expand(1, 1, 8, 8)

        part = of_content(column, (128, 88), (128, 128))  # five and a half cells wide

        assert part.shape == (1, 1, 8, 6)
        expected = (torch.arange(6) + 0.5) / 6 * 5.5 - 0.5
        torch.testing.assert_close(part[0, 0, 3], expected.clamp(min=0))


class TestOwnNetworks:
    @pytest.fixture
    def weights(self, tmp_path: Path, table: ModalityTable) -> tuple[ESPMedSAM, Path]:
        held = {"ct": table["ct"].index, "xray": table["xray"].index}
        network = build_product(held, {name: table.target_names[name] for name in held}).eval()
        torch.save(network.state_dict(), tmp_path / "specialist.pt")
        return network, tmp_path / "specialist.pt"

    def load(self, path: Path, table: ModalityTable, *, masks: bool = False) -> Teacher:
        return load_teacher(
            "network",
            path,
            table=table,
            input_size=(64, 64),
            pixel_mean=(0.1, 0.2, 0.3),
            pixel_std=(0.5, 0.6, 0.7),
            masks=masks,
        )

    def test_a_specialist_teaches_the_modalities_that_it_holds(
        self, weights: tuple[ESPMedSAM, Path], table: ModalityTable
    ) -> None:
        network, path = weights
        teacher = self.load(path, table)
        image = torch.rand(2, 3, 64, 64)
        modality = torch.tensor([table["xray"].index, table["ct"].index])

        embedding = teacher(image, modality).embedding

        mean, std = (torch.tensor(v)[:, None, None] for v in ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))
        with torch.no_grad():
            expected = network.predict((image - mean) / std, modality).image_embedding
        torch.testing.assert_close(embedding, expected)

    def test_sees_images_as_its_record_says_unless_it_is_said_otherwise(
        self,
        weights: tuple[ESPMedSAM, Path],
        table: ModalityTable,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        path = weights[1]
        usual = load_teacher("network", path, table=table, input_size=None)
        own = TrainedWith((96, 64), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
        record_weights(path, None, own)

        recorded = load_teacher("network", path, table=table, input_size=None)
        told = caplog.text
        other = load_teacher("network", path, table=table, input_size=(64, 64))

        assert (usual.input_size, usual.mean[0].item()) == (NETWORK_SIZE, pytest.approx(0.485))
        assert recorded.input_size == (96, 64)
        assert recorded.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
        assert recorded.std.flatten().tolist() == pytest.approx([0.5, 0.6, 0.7])
        assert other.input_size == (64, 64)
        assert other.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
        assert "teacher_input_size" not in told
        assert "teacher_input_size is (64, 64); " in caplog.text
        assert "was trained with (96, 64)" in caplog.text

    def test_teaches_students_of_other_targets_and_of_fewer_modalities(
        self, weights: tuple[ESPMedSAM, Path], table: ModalityTable
    ) -> None:
        code = {"value": "1", "scheme": "99TOY", "meaning": "Rib"}
        rib = {"label": 1, "category": code, "type": code, "color": [1, 200, 3]}
        row = {"index": table["xray"].index, "targets": {"rib": rib}}
        own = ModalityTable.of({"modalities": {"xray": row}, "presence": True}, "a table")
        image, modality = torch.rand(1, 3, 64, 64), torch.tensor([table["xray"].index])

        said = self.load(weights[1], own)(image, modality)

        again = self.load(weights[1], table)(image, modality)
        assert torch.equal(said.embedding, again.embedding)

    def test_asked_for_masks_it_says_those_of_the_image_in_the_network_s_rows(
        self, tmp_path: Path, table: ModalityTable
    ) -> None:
        network = network_of_table(table).eval()
        torch.save(network.state_dict(), tmp_path / "all.pt")
        teacher = self.load(tmp_path / "all.pt", table, masks=True)
        image = torch.rand(2, 3, 32, 64)
        modality = torch.tensor([table["xray"].index, table["ct"].index])

        said = teacher(image, modality)

        view = F.pad((image - teacher.mean) / teacher.std, (0, 0, 0, 32))
        with torch.no_grad():
            expected = network.predict(view, modality).low_res_logits
        assert said.logits is not None
        half = expected.shape[2] // 2
        torch.testing.assert_close(said.logits, expected[:, :, :half])
        assert (said.logits[0, len(table["xray"].targets) :] == ABSENT_LOGIT).all()

    def test_a_teacher_of_masks_may_have_another_encoder_and_lack_heads(
        self, tmp_path: Path, table: ModalityTable
    ) -> None:
        network = network_of_table(table)
        torch.save(network.state_dict(), tmp_path / "all.pt")
        of_student = replace(table, image_encoder="tic", presence=True)

        teacher = self.load(tmp_path / "all.pt", of_student, masks=True)

        said = teacher(torch.rand(1, 3, 64, 64), torch.tensor([table["ct"].index]))
        assert said.logits is not None
        soft = self.load(tmp_path / "all.pt", replace(table, prompt="soft"), masks=True)
        assert soft.identity != self.load(tmp_path / "all.pt", table, masks=True).identity

    def test_asked_for_masks_it_must_hold_the_student_s_targets(
        self, weights: tuple[ESPMedSAM, Path], table: ModalityTable
    ) -> None:
        with pytest.raises(CheckpointMismatchError):
            self.load(weights[1], table, masks=True)

    def test_tells_which_modalities_it_knows(
        self, weights: tuple[ESPMedSAM, Path], table: ModalityTable
    ) -> None:
        assert self.load(weights[1], table).modalities == ["ct", "xray"]

    def test_refuses_what_is_not_there(self, tmp_path: Path, table: ModalityTable) -> None:
        with pytest.raises(InputNotFoundError):
            self.load(tmp_path / "none.pt", table)


class TestMobileSAM:
    def test_refuses_to_teach_a_student_that_starts_from_weights(
        self, tmp_path: Path, table: ModalityTable
    ) -> None:
        with pytest.raises(OptionError, match=r"pretrained must be.*MobileSAM"):
            load_teacher(
                "mobilesam",
                tmp_path / "mobile_sam.pt",
                table=table,
                input_size=None,
                pixel_mean=SAM_MEAN,
                pixel_std=SAM_STD,
                student_starts_from="model.pt",
            )

    @pytest.mark.parametrize("kind", ["sam", "mobilesam"])
    def test_refuses_another_size_than_sam_s(
        self, kind: Any, tmp_path: Path, table: ModalityTable
    ) -> None:
        with pytest.raises(OptionError, match=r"teacher_input_size must be.*got 64 x 96\."):
            load_teacher(
                kind,
                tmp_path / "sam.pt",
                table=table,
                input_size=(64, 96),
                pixel_mean=SAM_MEAN,
                pixel_std=SAM_STD,
            )


class TestSAM:
    def test_refuses_what_is_no_sam(self, tmp_path: Path) -> None:
        torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")

        with pytest.raises(CheckpointError, match="must be a SAM checkpoint of vit_b"):
            load_sam_encoder(tmp_path / "other.pt")

    def test_names_the_extra_where_segment_anything_is_not_installed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "segment_anything", None)

        with pytest.raises(OptionError, match=r"pip install 'esp-medsam\[teacher\]'"):
            sam_encoder("vit_b")

    @pytest.mark.slow
    def test_is_the_package_s_encoder_with_the_checkpoint_s_weights(
        self, tmp_path: Path, table: ModalityTable
    ) -> None:
        package = pytest.importorskip("segment_anything")
        path = checkpoint(tmp_path / "sam_vit_b.pth")
        teacher = load_teacher("sam", path, table=table, input_size=None)
        image = torch.rand(1, 3, 1024, 768)

        embedding = teacher(image).embedding

        whole = package.sam_model_registry["vit_b"]()
        whole.load_state_dict(torch.load(path), strict=False)
        with torch.no_grad():
            expected = whole.image_encoder(whole.preprocess(image[0] * 255)[None])
        assert teacher.input_size == SAM_SIZE
        assert embedding.shape == (1, 256, 64, 48)
        torch.testing.assert_close(embedding, expected[..., :48], rtol=1e-4, atol=1e-4)


def checkpoint(path: Path) -> Path:
    """Write a checkpoint of ViT-B's true names and shapes, of small random numbers."""
    entries = encoder_entries(SAM_VARIANTS[0])
    torch.save(
        {f"image_encoder.{n}": torch.randn(t.shape).mul_(0.02) for n, t in entries.items()}, path
    )
    return path
