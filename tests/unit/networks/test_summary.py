from __future__ import annotations

import pytest

from esp_medsam.modality import ModalityTable
from esp_medsam.networks import build_product
from esp_medsam.networks.builders import RELEASED_TARGETS, build_released_design
from esp_medsam.networks.summary import Summary, summarize


@pytest.fixture(scope="module")
def released() -> Summary:
    return summarize(build_released_design, {"xray": 1}, RELEASED_TARGETS, input_size=(1024, 1024))


@pytest.fixture(scope="module")
def product(table: ModalityTable) -> Summary:
    return summarize(
        build_product,
        table.indices,
        table.target_names,
        input_size=(64, 96),
        modality="ct",
    )


class TestReleased:
    def test_parameters_are_the_published_checkpoints(self, released: Summary) -> None:
        assert released.parameters["shared_encoder"] == 6_065_532
        assert released.parameters["modality_controllers"] == 3_144_202
        assert released.parameters["mask_decoder"] == 3_505_024
        assert released.total_parameters == 12_789_587

    def test_operations_are_the_released_codes(self, released: Summary) -> None:
        # Measured on the released code: 56.72 in all, 38.77 of them MobileSAM's encoder, 1.82 the
        # decoder. There the token takes part in a matrix product, here in a sum.
        assert released.total_gmacs == pytest.approx(56.72, rel=1e-3)
        assert released.gmacs["shared_encoder"] == pytest.approx(38.77, rel=1e-3)
        assert released.gmacs["modality_controllers"] == pytest.approx(16.05, rel=1e-2)
        assert released.gmacs["mask_decoder"] == pytest.approx(1.815, rel=1e-2)

    def test_a_further_modality_costs_its_controllers(self, released: Summary) -> None:
        assert released.one_more_modality.parameters == 3_144_202
        assert released.one_more_modality.gmacs == 0
        assert released.one_more_target.parameters == 256

    def test_modalities_without_controllers_have_queries_alone(self, released: Summary) -> None:
        assert released.modalities["fundus"].parameters == 256
        assert released.modalities["fundus"].gmacs is None
        assert released.modalities["xray"].gmacs == released.total_gmacs


class TestProduct:
    def test_parts_add_up_to_the_network(self, product: Summary, table: ModalityTable) -> None:
        network = build_product(table.indices, table.target_names)

        assert product.total_parameters == sum(p.numel() for p in network.parameters())
        assert sum(product.gmacs.values()) == product.total_gmacs
        assert set(product.gmacs) == set(product.parameters)

    def test_a_further_target_costs_its_query_and_patch_head(self, product: Summary) -> None:
        assert product.one_more_target.parameters == 256 + 65
        assert product.one_more_target.gmacs > 0

    def test_a_further_modality_costs_the_other_images_nothing(self, product: Summary) -> None:
        xray = product.modalities["xray"]

        assert product.one_more_modality.parameters == xray.parameters
        assert product.one_more_modality.gmacs == 0

    def test_more_targets_take_more_operations(self, product: Summary) -> None:
        ct, xray = product.modalities["ct"], product.modalities["xray"]

        further = (ct.targets - xray.targets) * product.one_more_target.gmacs
        assert ct.gmacs == product.total_gmacs
        assert ct.gmacs == pytest.approx((xray.gmacs or 0) + further)

    def test_json_holds_the_totals(self, product: Summary) -> None:
        content = product.to_json()

        assert content["input_size"] == [64, 96]
        assert content["total_parameters"] == product.total_parameters
        assert content["modalities"]["ct"]["targets"] == 6
