from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from esp_medsam.errors import (
    CheckpointError,
    CheckpointMismatchError,
    InputNotFoundError,
    ModalityError,
)
from esp_medsam.networks import ESPMedSAM, build_paper, build_released
from esp_medsam.networks.checkpoints import (
    build_released_from_checkpoint,
    from_delightsam,
    from_delightsam_set,
    from_mobilesam,
    held_modalities,
    load_shared,
    to_delightsam,
)
from esp_medsam.networks.modality_controller import ModalityController


@pytest.fixture(scope="module")
def official_xray() -> dict[str, Tensor]:
    """What an official checkpoint for X-ray holds."""
    torch.manual_seed(1)
    return to_delightsam(build_released("xray"), "xray")


@pytest.fixture(scope="module")
def official_fundus(official_xray: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same but for its controllers, as the official checkpoints are."""
    torch.manual_seed(2)
    fundus = to_delightsam(build_released("fundus"), "fundus")
    return {key: fundus[key] if "med" in key else value for key, value in official_xray.items()}


@pytest.fixture(scope="module")
def mobile_sam(official_xray: dict[str, Tensor]) -> dict[str, Tensor]:
    """What mobile_sam.pt holds: what we share with it, and parts that we do not take."""
    parts = ("SemiTViT.", "prompt_encoder.", "mask_decoder.")
    shared = {
        key.replace("SemiTViT.", "image_encoder."): value
        for key, value in official_xray.items()
        if key.startswith(parts) and "med" not in key
    }
    rest = ("iou_token.weight", "output_hypernetworks_mlps.1.layers.0.weight")
    return shared | {f"mask_decoder.{key}": torch.zeros(1, 256) for key in rest}


class TestFromDelightsam:
    def test_runs_its_modality_by_default(self, official_fundus: dict[str, Tensor]) -> None:
        network = from_delightsam(official_fundus, "fundus")
        image = torch.randn(1, 3, 64, 64)

        logits = network(image)

        assert not network.training
        assert network.modalities == {"fundus": 3}
        assert network.default_modality == "fundus"
        torch.testing.assert_close(logits, network(image, torch.tensor([3])), atol=1e-5, rtol=0)

    def test_modality_chooses_query_row_and_names_alone(
        self, official_xray: dict[str, Tensor]
    ) -> None:
        xray, endoscopy = (
            from_delightsam(official_xray),
            from_delightsam(official_xray, "endoscopy"),
        )
        image = torch.randn(1, 3, 64, 64)

        first, second = xray.predict(image), endoscopy.predict(image)

        assert xray.default_modality == "xray"
        assert torch.equal(first.image_embedding, second.image_embedding)
        assert torch.equal(first.patch_logits, second.patch_logits)
        assert not torch.allclose(first.low_res_logits, second.low_res_logits)

    def test_reports_every_entry_that_does_not_fit(self, official_xray: dict[str, Tensor]) -> None:
        wrong = dict(official_xray)
        del wrong["SemiTViT.neck.0.weight"], wrong["patch_decoder.0.bias"]
        wrong["mask_query.weight"] = torch.zeros(6, 256)
        wrong["extra.weight"] = torch.zeros(1)

        with pytest.raises(CheckpointMismatchError, match=r"ESP\.pth must hold exactly") as caught:
            from_delightsam(wrong, "xray", source="ESP.pth")

        assert set(caught.value.missing) == {"SemiTViT.neck.0.weight", "patch_decoder.0.bias"}
        assert caught.value.unexpected == ("extra.weight",)
        assert caught.value.mismatched == ("mask_query.weight (6, 256) for (7, 256)",)

    def test_refuses_another_networks_checkpoint_in_a_short_line(
        self, mobile_sam: dict[str, Tensor]
    ) -> None:
        with pytest.raises(
            CheckpointError, match="must be a De-LightSAM checkpoint; got"
        ) as caught:
            from_delightsam(mobile_sam, "xray")
        assert len(str(caught.value)) < 200

    def test_refuses_a_modality_that_was_not_released(
        self, official_xray: dict[str, Tensor]
    ) -> None:
        with pytest.raises(
            ModalityError, match=r"modality must be one of dermoscopy, xray.*got ct"
        ):
            from_delightsam(official_xray, "ct")


class TestFromDelightsamSet:
    def test_merged_network_gives_what_each_gives_alone(
        self, official_xray: dict[str, Tensor], official_fundus: dict[str, Tensor]
    ) -> None:
        merged = from_delightsam_set({"fundus": official_fundus, "xray": official_xray})
        images, modality = torch.randn(2, 3, 64, 64), torch.tensor([1, 3])

        logits = merged(images, modality)

        assert merged.modalities == {"fundus": 3, "xray": 1}
        assert merged.default_modality == "fundus"
        xray, fundus = from_delightsam(official_xray), from_delightsam(official_fundus, "fundus")
        torch.testing.assert_close(logits[:1], xray(images[:1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(logits[1:], fundus(images[1:]), atol=1e-5, rtol=0)

    def test_each_modality_comes_back_exactly(
        self, official_xray: dict[str, Tensor], official_fundus: dict[str, Tensor]
    ) -> None:
        merged = from_delightsam_set({"xray": official_xray, "fundus": official_fundus})

        returned = to_delightsam(merged, "fundus")

        assert set(returned) == set(official_fundus)
        assert all(torch.equal(returned[key], value) for key, value in official_fundus.items())

    def test_refuses_shared_tensors_that_differ_and_names_them(
        self, official_xray: dict[str, Tensor], official_fundus: dict[str, Tensor]
    ) -> None:
        changed = dict(official_fundus)
        for key in ("mask_query.weight", "SemiTViT.neck.1.bias"):
            changed[key] = changed[key] + 1e-6

        with pytest.raises(CheckpointError, match="fundus differs from xray in") as caught:
            from_delightsam_set({"xray": official_xray, "fundus": changed})

        message = str(caught.value)
        assert "mask_query.weight" in message
        assert "SemiTViT.neck.1.bias" in message
        assert message.count("weight") == 1

    def test_refuses_no_checkpoints(self) -> None:
        with pytest.raises(ModalityError, match="got none"):
            from_delightsam_set({})


class TestToDelightsam:
    def test_refuses_a_modality_that_is_not_held(self) -> None:
        with pytest.raises(ModalityError, match="modality must be one of xray; got 'fundus'"):
            to_delightsam(build_released("xray"), "fundus")


class TestFromMobilesam:
    def test_gives_what_the_modalities_share(
        self, mobile_sam: dict[str, Tensor], official_xray: dict[str, Tensor]
    ) -> None:
        shared = from_mobilesam(mobile_sam)

        released = from_delightsam(official_xray).state_dict()
        parts = ("image_encoder.", "mask_decoder.", "position_encoding.")
        assert set(shared) == {
            key for key in released if key.startswith(parts) and ".controllers." not in key
        }
        assert all(torch.equal(released[key], value) for key, value in shared.items())

    def test_reports_every_entry_that_does_not_fit(self, mobile_sam: dict[str, Tensor]) -> None:
        wrong = dict(mobile_sam)
        del wrong["image_encoder.neck.0.weight"], wrong["mask_decoder.output_upscaling.0.bias"]
        wrong["image_encoder.extra"] = wrong["mask_decoder.transformer.extra"] = torch.zeros(1)

        with pytest.raises(CheckpointMismatchError) as caught:
            from_mobilesam(wrong)

        assert set(caught.value.missing) == {
            "image_encoder.neck.0.weight",
            "mask_decoder.output_upscaling.0.bias",
        }
        assert caught.value.unexpected == (
            "image_encoder.extra",
            "mask_decoder.transformer.extra",
        )

    def test_refuses_another_networks_checkpoint(self, official_xray: dict[str, Tensor]) -> None:
        official = {key: v for key, v in official_xray.items() if key.startswith("SemiTViT.")}

        with pytest.raises(CheckpointError, match="must be a MobileSAM checkpoint; got 382"):
            from_mobilesam(official)


class TestLoadShared:
    def test_fits_the_product_and_the_released_design(
        self, mobile_sam: dict[str, Tensor], network: ESPMedSAM
    ) -> None:
        shared, released = from_mobilesam(mobile_sam), build_released("xray")
        before = {key: value.clone() for key, value in network.state_dict().items()}

        load_shared(network, shared)
        load_shared(released, shared)

        after = network.state_dict()
        rest = [key for key in after if key not in shared]
        assert not any(key.startswith("image_encoder.classifier.") for key in after)
        assert all(torch.equal(after[key], v) for key, v in shared.items() if key in after)
        assert all(torch.equal(after[key], before[key]) for key in rest)
        assert all(torch.equal(released.state_dict()[key], v) for key, v in shared.items())

    def test_leaves_a_hypernetwork_per_query_as_it_is(self, mobile_sam: dict[str, Tensor]) -> None:
        network, shared = build_paper(), from_mobilesam(mobile_sam)
        own = network.mask_decoder.hypernetwork.state_dict()
        before = {key: value.clone() for key, value in own.items()}

        load_shared(network, shared)

        after = network.mask_decoder.hypernetwork.state_dict()
        name = "mask_decoder.transformer.norm_final_attn.weight"
        assert all(torch.equal(after[key], value) for key, value in before.items())
        assert torch.equal(network.state_dict()[name], shared[name])

    def test_silenced_experts_add_nothing_and_can_learn(
        self, mobile_sam: dict[str, Tensor], network: ESPMedSAM
    ) -> None:
        load_shared(network, from_mobilesam(mobile_sam), silence_experts=True)

        experts = [m.expert for m in network.modules() if isinstance(m, ModalityController)]
        tokens = torch.randn(1, 5, experts[0].fc1.in_features)
        experts[0](tokens).pow(2).sum().backward()
        (experts[0](tokens) - 1).pow(2).sum().backward()
        assert len(experts) == 20
        assert not any(module.fc2.weight.any() or module.fc2.bias.any() for module in experts)
        assert not experts[0](tokens).any()
        assert experts[0].fc2.weight.grad.any()

    def test_refuses_what_lacks_an_entry_and_changes_nothing(
        self, mobile_sam: dict[str, Tensor], network: ESPMedSAM
    ) -> None:
        shared = from_mobilesam(mobile_sam)
        del shared["image_encoder.neck.0.weight"]
        before = {key: value.clone() for key, value in network.state_dict().items()}

        with pytest.raises(
            CheckpointMismatchError, match=r"1 missing: image_encoder\.neck\.0\.weight"
        ):
            load_shared(network, shared, silence_experts=True)

        assert all(torch.equal(network.state_dict()[key], v) for key, v in before.items())

    def test_refuses_an_official_file_in_a_short_line(
        self, official_xray: dict[str, Tensor], network: ESPMedSAM
    ) -> None:
        with pytest.raises(
            CheckpointError, match="must be a converted MobileSAM checkpoint"
        ) as caught:
            load_shared(network, official_xray)
        assert str(caught.value).endswith("with `esp-medsam convert --from mobilesam`.")
        assert len(str(caught.value)) < 300


class TestBuildReleasedFromCheckpoint:
    def test_reads_the_modalities_from_the_names(
        self, tmp_path: Path, official_xray: dict[str, Tensor], official_fundus: dict[str, Tensor]
    ) -> None:
        merged = from_delightsam_set({"fundus": official_fundus, "xray": official_xray})
        torch.save(merged.state_dict(), tmp_path / "a.pt")

        network = build_released_from_checkpoint(tmp_path / "a.pt")

        assert held_modalities(merged.state_dict()) == ["fundus", "xray"]
        assert network.modalities == {"fundus": 3, "xray": 1}
        image = torch.randn(1, 3, 32, 32)
        assert torch.equal(network(image), merged(image))

    def test_refuses_an_official_file_that_is_not_converted(
        self, tmp_path: Path, official_xray: dict[str, Tensor]
    ) -> None:
        torch.save(official_xray, tmp_path / "a.pt")

        with pytest.raises(CheckpointError, match="esp-medsam convert --from delightsam"):
            build_released_from_checkpoint(tmp_path / "a.pt")

    def test_refuses_our_own_networks_weights(self, tmp_path: Path, network: ESPMedSAM) -> None:
        torch.save(network.state_dict(), tmp_path / "a.pt")

        with pytest.raises(CheckpointError, match="it holds controllers of ct, fundus"):
            build_released_from_checkpoint(tmp_path / "a.pt")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputNotFoundError, match="there is none"):
            build_released_from_checkpoint(tmp_path / "a.pt")


class TestProductNames:
    def test_names_and_shapes_do_not_depend_on_the_other_modalities(
        self, make_network: Callable[..., ESPMedSAM]
    ) -> None:
        small = make_network(modalities={"ct": 6}, targets={"ct": ["liver"]}).state_dict()
        large = make_network().state_dict()

        assert all(large[name].shape == value.shape for name, value in small.items())
