from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from esp_medsam.errors import (
    CheckpointError,
    CheckpointMismatchError,
    InputNotFoundError,
    TooLargeError,
)
from esp_medsam.networks.state_dicts import load_checkpoint, load_into


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code in a checkpoint was run",)


class TestLoadCheckpoint:
    @pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
    def test_reads_plain_and_wrapped_state_dicts(self, tmp_path: Path, wrapper: str | None) -> None:
        state_dict = {"weight": torch.randn(2, 3), "steps": torch.tensor(7)}
        content = state_dict if wrapper is None else {wrapper: state_dict, "epoch": 3}
        torch.save(content, tmp_path / "a.pt")

        loaded = load_checkpoint(tmp_path / "a.pt")

        assert list(loaded) == ["weight", "steps"]
        assert torch.equal(loaded["weight"], state_dict["weight"])

    def test_keeps_half_precision(self, tmp_path: Path) -> None:
        torch.save({"weight": torch.ones(2, dtype=torch.float16)}, tmp_path / "a.pt")

        assert load_checkpoint(str(tmp_path / "a.pt"))["weight"].dtype == torch.float16

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputNotFoundError, match=r"none\.pt must be an existing file"):
            load_checkpoint(tmp_path / "none.pt")

    def test_never_runs_code(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        torch.save({"weight": RunsCode()}, tmp_path / "a.pt")
        with (tmp_path / "b.pt").open("wb") as file:
            pickle.dump(RunsCode(), file)

        for name in ("a.pt", "b.pt"):
            with pytest.raises(
                CheckpointError, match=f"{name} must be a state dict saved by torch"
            ):
                load_checkpoint(tmp_path / name)
        assert capsys.readouterr().out == ""

    def test_refuses_a_pickled_network(self, tmp_path: Path) -> None:
        torch.save(nn.Linear(2, 2), tmp_path / "a.pt")

        with pytest.raises(CheckpointError, match=r"more than tensors: torch\.nn\.modules\.linear"):
            load_checkpoint(tmp_path / "a.pt")

    def test_refuses_a_script(self, tmp_path: Path) -> None:
        torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "a.ts"))

        with pytest.raises(CheckpointError, match=r"its a/code/.* is compressed"):
            load_checkpoint(tmp_path / "a.ts")

    @pytest.mark.parametrize("content", [b"", b"hello world", b"\x80\x02garbage", b"PK\x03\x04"])
    def test_refuses_what_is_no_checkpoint_in_one_line(
        self, tmp_path: Path, content: bytes
    ) -> None:
        (tmp_path / "a.pt").write_bytes(content)

        with pytest.raises(CheckpointError, match=r"\.pt must be a state dict") as caught:
            load_checkpoint(tmp_path / "a.pt")
        assert "\n" not in str(caught.value)

    def test_refuses_a_file_cut_short(self, tmp_path: Path) -> None:
        torch.save({"weight": torch.randn(100, 100)}, tmp_path / "a.pt")
        whole = (tmp_path / "a.pt").read_bytes()
        (tmp_path / "a.pt").write_bytes(whole[: len(whole) // 2])

        with pytest.raises(CheckpointError, match=r"\.pt must be a state dict"):
            load_checkpoint(tmp_path / "a.pt")

    def test_refuses_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="must be a readable file; got: "):
            load_checkpoint(tmp_path)

    def test_refuses_a_pipe_at_once(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.pt")

        with pytest.raises(CheckpointError, match="got: it is a pipe, not a file"):
            load_checkpoint(tmp_path / "a.pt")

    def test_says_that_memory_ran_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def burst(*arguments: Any, **options: Any) -> None:
            raise MemoryError

        torch.save({"weight": torch.ones(1)}, tmp_path / "a.pt")
        monkeypatch.setattr(torch, "load", burst)

        with pytest.raises(TooLargeError, match=r"a\.pt must fit in memory;.*ran out"):
            load_checkpoint(tmp_path / "a.pt")

    @pytest.mark.parametrize(
        ("content", "held"),
        [
            ([torch.ones(1)], "a list"),
            (torch.ones(1), "a Tensor"),
            ({}, "an empty dict"),
            ({"model": {}}, "an empty dict"),
            ({"weight": 1.0}, "'weight': float"),
            ({"epoch": 3, "weights": {"a": torch.ones(1)}}, "'epoch': int"),
            ({1: torch.ones(1)}, "1: Tensor"),
            ({"n" * 501: torch.ones(1)}, "'nnn"),
            ({"weight": torch.ones(1).expand(9)}, "'weight': Tensor"),
        ],
    )
    def test_refuses_what_is_no_state_dict(
        self, tmp_path: Path, content: object, held: str
    ) -> None:
        torch.save(content, tmp_path / "a.pt")

        with pytest.raises(CheckpointError, match=f"must hold a state dict.*; got {held}"):
            load_checkpoint(tmp_path / "a.pt")


class TestLoadInto:
    def test_half_precision_goes_into_float32(self) -> None:
        network, source = nn.Linear(2, 3), nn.Linear(2, 3).half()

        load_into(network, source.state_dict())

        assert network.weight.dtype == torch.float32
        assert torch.equal(network.weight, source.weight.float())

    def test_reports_everything_that_differs_together(self) -> None:
        network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm2d(3))
        state_dict = network.state_dict()
        del state_dict["0.bias"], state_dict["1.bias"]
        state_dict["0.weight"] = torch.ones(3, 5)
        state_dict["1.num_batches_tracked"] = torch.tensor(1.0)
        state_dict["head.weight"] = torch.ones(1)

        with pytest.raises(CheckpointMismatchError, match=r"^a\.pt must hold exactly") as caught:
            load_into(network, state_dict, source="a.pt")

        assert caught.value.missing == ("0.bias", "1.bias")
        assert caught.value.unexpected == ("head.weight",)
        assert caught.value.mismatched == (
            "0.weight (3, 5) for (3, 2)",
            "1.num_batches_tracked () for () int64",
        )
        for name in ("0.bias", "1.bias", "head.weight", "0.weight", "1.num_batches_tracked"):
            assert name in str(caught.value)

    def test_leaves_the_network_as_it_was_where_anything_differs(self) -> None:
        network = nn.Linear(2, 3)
        before = network.weight.detach().clone()

        with pytest.raises(CheckpointMismatchError, match="1 missing: bias"):
            load_into(network, {"weight": torch.zeros(3, 2)})

        assert torch.equal(network.weight, before)
