from __future__ import annotations

import torch

from esp_medsam.networks.hypernetwork import Hypernetwork, HypernetworkPerQuery


TARGETS = {"ct": ["liver", "kidney"], "mri": ["glioma"]}


class TestHypernetwork:
    def test_takes_the_same_network_for_all_queries(self) -> None:
        network, token = Hypernetwork(8, 16, out_dim=4), torch.randn(1, 8).expand(2, 8)

        weights = network(token, torch.tensor([0, 1]))

        assert weights.shape == (2, 4)
        assert torch.equal(weights[0], weights[1])


class TestHypernetworkPerQuery:
    def test_takes_each_querys_own_network(self) -> None:
        network = HypernetworkPerQuery(TARGETS, 8, 16, out_dim=4)
        token = torch.randn(3, 8)

        weights = network(token, torch.tensor([2, 0, 2]))

        glioma, liver = network.targets["mri"]["glioma"], network.targets["ct"]["liver"]
        torch.testing.assert_close(weights[0], glioma(token, torch.zeros(3))[0])
        torch.testing.assert_close(weights[1], liver(token, torch.zeros(3))[1])
        torch.testing.assert_close(weights[2], glioma(token, torch.zeros(3))[2])

    def test_a_query_trains_its_own_network_alone(self) -> None:
        network = HypernetworkPerQuery(TARGETS, 8, 16, out_dim=4)

        network(torch.randn(1, 8), torch.tensor([1])).sum().backward()

        trained = {
            name: bool(parameter.grad is not None and parameter.grad.any())
            for name, parameter in network.named_parameters()
            if name.endswith("fc3.bias")
        }
        assert trained == {
            "targets.ct.liver.fc3.bias": False,
            "targets.ct.kidney.fc3.bias": True,
            "targets.mri.glioma.fc3.bias": False,
        }
