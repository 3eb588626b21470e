from __future__ import annotations

import pytest
import torch

from esp_medsam.networks.modality_query import ModalityQueries


TARGETS = {"ct": ["liver", "kidney"], "mri": ["glioma"]}


class TestModalityQueries:
    def test_isolated_gives_each_pair_its_own_tokens_alone(self) -> None:
        queries = ModalityQueries(TARGETS, 8, tokens_per_target=2)

        tokens, place = queries(torch.tensor([2, 0, 2]))

        assert tokens.shape == (3, 2, 8)
        assert place.tolist() == [0, 0, 0]
        assert torch.equal(tokens[0], queries.targets["mri"]["glioma"].tokens)
        assert torch.equal(tokens[1], queries.targets["ct"]["liver"].tokens)

    def test_joint_gives_each_pair_all_tokens_and_its_place(self) -> None:
        queries = ModalityQueries(TARGETS, 8, tokens_per_target=2, joint=True, spare=1)

        tokens, place = queries(torch.tensor([2, 1]))

        assert tokens.shape == (2, 7, 8)
        assert place.tolist() == [4, 2]
        assert torch.equal(tokens[0], tokens[1])
        assert torch.equal(tokens[0, 6], queries.spare[0])
        assert torch.equal(tokens[0, 4], queries.targets["mri"]["glioma"].tokens[0])

    def test_tokens_are_stored_by_name(self) -> None:
        assert list(ModalityQueries(TARGETS, 8).state_dict()) == [
            "spare",
            "targets.ct.liver.tokens",
            "targets.ct.kidney.tokens",
            "targets.mri.glioma.tokens",
        ]

    def test_refuses_no_tokens(self) -> None:
        with pytest.raises(ValueError, match="tokens_per_target must be at least 1; got 0"):
            ModalityQueries(TARGETS, 8, tokens_per_target=0)

    def test_refuses_spare_tokens_in_isolation(self) -> None:
        with pytest.raises(ValueError, match="spare tokens need joint decoding; got spare=2"):
            ModalityQueries(TARGETS, 8, spare=2)
