from __future__ import annotations

import pytest
import torch

from esp_medsam.networks.modality_controller import ControllerBank, ModalityController, route


@pytest.fixture
def bank() -> ControllerBank:
    bank = ControllerBank(["ct", "mri", "xray"], 8, 2, 6, tied_token=False)
    for number, controller in enumerate(bank.controllers.values()):
        torch.nn.init.constant_(controller.bias, number + 1)
    return bank


class TestRoute:
    def test_none_fixes_one_controller(self) -> None:
        batch_route = route(2, None, 3)

        assert batch_route.fixed == 2
        assert batch_route.place is None
        assert batch_route.order is None

    def test_groups_images_and_brings_them_back(self) -> None:
        place = torch.tensor([2, 0, 2, 0, 1])

        batch_route = route(0, place, 3)

        assert [rows.tolist() for rows in batch_route.rows] == [[1, 3], [4], [0, 2]]
        grouped = torch.cat(batch_route.rows)
        assert batch_route.order is not None
        assert grouped[batch_route.order].tolist() == [0, 1, 2, 3, 4]


class TestModalityController:
    def test_tied_token_is_key_and_value(self) -> None:
        tied = ModalityController(8, 2, 6, tied_token=True)
        separate = ModalityController(8, 2, 6, tied_token=False)

        assert tied.token().key is tied.token().value
        assert "value" not in tied.state_dict()
        assert not torch.equal(separate.token().key, separate.token().value)

    def test_bias_starts_at_zero(self) -> None:
        assert ModalityController(8, 2, 6, tied_token=True).bias.tolist() == [0.0]


class TestControllerBank:
    def test_each_image_takes_its_own_expert(self, bank: ControllerBank) -> None:
        tokens, place = torch.randn(4, 5, 8), torch.tensor([2, 0, 2, 1])

        update = bank(tokens, route(0, place, 3))

        for image, controller in enumerate(place.tolist()):
            alone = bank(tokens[image : image + 1], route(controller, None, 3))
            torch.testing.assert_close(update[image : image + 1], alone)

    def test_each_image_takes_its_own_token(self, bank: ControllerBank) -> None:
        token = bank.window_token(route(0, torch.tensor([2, 0]), 3))

        assert token.bias.tolist() == [3.0, 1.0]
        assert torch.equal(token.key[0], bank.controllers["xray"].key)
        assert torch.equal(token.value[1], bank.controllers["ct"].value)

    def test_a_fixed_route_shares_one_token(self, bank: ControllerBank) -> None:
        token = bank.window_token(route(1, None, 3))

        assert token.key.shape == (1, 2, 4)
        assert token.bias.tolist() == [2.0]
