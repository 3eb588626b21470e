from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from esp_medsam.errors import (
    CheckpointError,
    DiskFullError,
    InputNotFoundError,
    ModalityError,
    OptionError,
    OutputError,
    OutputExistsError,
)
from esp_medsam.identity import sha256_of
from esp_medsam.io.weights_record import check_hash, read_weights_record
from esp_medsam.networks import build_released
from esp_medsam.networks.checkpoints import (
    build_released_from_checkpoint,
    held_modalities,
    load_checkpoint,
    to_delightsam,
)
from esp_medsam.networks.sam_checkpoint import SAM_VARIANTS, encoder_entries
from esp_medsam.workflows import convert as module
from esp_medsam.workflows.conversion import MOBILE_SAM
from esp_medsam.workflows.convert import convert


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An official checkpoint for fundus."""
    path = tmp_path_factory.mktemp("official") / "ESP_fundus.pth"
    torch.manual_seed(0)
    torch.save(to_delightsam(build_released("fundus"), "fundus"), path)
    return path


@pytest.fixture(scope="module")
def mobile_sam(official: Path) -> Path:
    path = official.with_name("mobile_sam.pt")
    parts = ("SemiTViT.", "prompt_encoder.", "mask_decoder.")
    shared = {
        key.replace("SemiTViT.", "image_encoder."): value
        for key, value in load_checkpoint(official).items()
        if key.startswith(parts) and "med" not in key
    }
    torch.save(shared, path)
    return path


class TestConvert:
    def test_delightsam_becomes_the_released_networks_weights(
        self, official: Path, tmp_path: Path
    ) -> None:
        found = convert(official, tmp_path / "out.pt", origin="delightsam", modality="fundus")

        network = build_released_from_checkpoint(tmp_path / "out.pt")
        returned = to_delightsam(network, "fundus")
        assert found == "De-LightSAM network for fundus"
        assert network.modalities == {"fundus": 3}
        assert all(torch.equal(returned[k], v) for k, v in load_checkpoint(official).items())

    def test_mobilesam_becomes_what_the_modalities_share(
        self, mobile_sam: Path, tmp_path: Path
    ) -> None:
        found = convert(mobile_sam, tmp_path / "out.pt", origin="mobilesam")

        state_dict = load_checkpoint(tmp_path / "out.pt")
        assert found == "MobileSAM image encoder and mask decoder"
        assert len(state_dict) == 397
        assert sum(key.startswith("image_encoder.") for key in state_dict) == 302
        assert not held_modalities(state_dict)

    def test_warns_of_a_mobilesam_that_is_not_the_official_one(
        self,
        mobile_sam: Path,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        convert(mobile_sam, tmp_path / "shared.pt", origin="mobilesam")

        (told,) = caplog.messages
        found = sha256_of(mobile_sam)
        assert told.startswith(f"{mobile_sam} is not the official mobile_sam.pt")
        assert told.endswith(f"its SHA-256 is {found}, not {MOBILE_SAM}.")
        monkeypatch.setattr("esp_medsam.workflows.conversion.MOBILE_SAM", found)
        caplog.clear()
        convert(mobile_sam, tmp_path / "again.pt", origin="mobilesam")
        assert not caplog.messages

    def test_sam_becomes_its_encoder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        variant = SAM_VARIANTS[0]
        entries = {k: torch.zeros(()).expand(v.shape) for k, v in encoder_entries(variant).items()}
        loaded = {f"image_encoder.{key}": value for key, value in entries.items()}
        saved: dict[str, torch.Tensor] = {}
        monkeypatch.setattr(module, "load_checkpoint", lambda path: loaded)
        monkeypatch.setattr(
            module, "write_state_dict", lambda state_dict, file: saved.update(state_dict)
        )

        source = tmp_path / "sam_vit_b_01ec64.pth"
        source.touch()
        found = convert(source, tmp_path / "out.pt", origin="sam")

        assert found == "SAM image encoder vit_b"
        assert set(saved) == set(entries)

    @pytest.mark.parametrize(
        ("origin", "modality", "asked"),
        [("delightsam", "fundus", True), ("mobilesam", None, False)],
    )
    def test_writes_beside_it_what_it_must_be(
        self,
        official: Path,
        mobile_sam: Path,
        tmp_path: Path,
        origin: str,
        modality: str | None,
        asked: bool,
    ) -> None:
        source = official if origin == "delightsam" else mobile_sam
        convert(source, tmp_path / "out.pt", origin=origin, modality=modality)

        record = read_weights_record(tmp_path / "out.pt")

        assert record is not None
        check_hash(tmp_path / "out.pt", record)
        assert (record.self_check is not None) == asked

    def test_refuses_an_output_that_exists(self, official: Path, tmp_path: Path) -> None:
        (tmp_path / "out.pt").write_bytes(b"mine")

        with pytest.raises(OutputExistsError, match="`overwrite`"):
            convert(official, tmp_path / "out.pt", origin="delightsam", modality="fundus")

        assert (tmp_path / "out.pt").read_bytes() == b"mine"

    def test_overwrites_where_asked(self, mobile_sam: Path, tmp_path: Path) -> None:
        (tmp_path / "out.pt").write_bytes(b"mine")

        convert(mobile_sam, tmp_path / "out.pt", origin="mobilesam", overwrite=True)

        assert len(load_checkpoint(tmp_path / "out.pt")) == 397

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_c4_its_record_replaces_neither_its_input_nor_another_file(
        self, mobile_sam: Path, tmp_path: Path, overwrite: bool
    ) -> None:
        source, content = tmp_path / "out.pt.json", mobile_sam.read_bytes()
        source.write_bytes(content)

        with pytest.raises(OutputExistsError, match=r"out\.pt\.json"):
            convert(source, tmp_path / "out.pt", origin="mobilesam", overwrite=overwrite)

        assert source.read_bytes() == content
        assert not (tmp_path / "out.pt").exists()

    @pytest.mark.parametrize("way", ["name", "link", "hard link", "link to nothing"])
    def test_c4_never_replaces_its_input(self, tmp_path: Path, way: str) -> None:
        source = tmp_path / "in.pth"
        source.write_bytes(b"weights")
        target = source if way == "name" else tmp_path / "out.pt"
        if way.startswith("link"):
            target.symlink_to(source if way == "link" else tmp_path / "nothing")
        elif way == "hard link":
            target.hardlink_to(source)
        kind, told = (OutputError, "OUT must be another file than IN")
        if way == "link to nothing":
            kind, told = (OutputExistsError, "must not exist")

        with pytest.raises(kind, match=told):
            convert(source, target, origin="sam", overwrite=way != "link to nothing")

        assert source.read_bytes() == b"weights"
        assert not (tmp_path / "nothing").exists()

    def test_a_link_is_replaced_and_not_what_it_leads_to(
        self, mobile_sam: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "theirs").write_bytes(b"theirs")
        (tmp_path / "out.pt").symlink_to("theirs")
        (tmp_path / ".esp-medsam-1234.tmp").touch()  # a killed run's

        convert(mobile_sam, tmp_path / "out.pt", origin="mobilesam", overwrite=True)

        assert (tmp_path / "theirs").read_bytes() == b"theirs"
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["out.pt", "out.pt.json", "theirs"]

    def test_a_wrong_file_leaves_nothing(self, official: Path, tmp_path: Path) -> None:
        with pytest.raises(
            CheckpointError, match=r"ESP_fundus\.pth must be a MobileSAM checkpoint"
        ):
            convert(official, tmp_path / "out.pt", origin="mobilesam")
        with pytest.raises(CheckpointError, match=r"ESP_fundus\.pth must be a SAM checkpoint"):
            convert(official, tmp_path / "out.pt", origin="sam")

        assert not list(tmp_path.iterdir())

    def test_a_full_disk_leaves_nothing(
        self, mobile_sam: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(content: object, file: object) -> None:
            try:
                raise OSError(28, "No space left on device")
            except OSError:
                msg = "unexpected pos 704 vs 598"
                raise RuntimeError(msg)  # noqa: B904  # as torch does

        monkeypatch.setattr(torch, "save", fail)

        with pytest.raises(DiskFullError, match="must fit on the disk"):
            convert(mobile_sam, tmp_path / "out.pt", origin="mobilesam")

        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
    def test_refuses_at_once_what_is_no_file(self, tmp_path: Path, make: Any) -> None:
        make(tmp_path / "in.pth")

        with pytest.raises(CheckpointError, match=r"in\.pth cannot be read: it is a"):
            convert(tmp_path / "in.pth", tmp_path / "out.pt", origin="sam")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputNotFoundError, match="there is none"):
            convert(tmp_path / "none.pth", tmp_path / "out.pt", origin="sam")

    def test_modality_is_never_guessed(self, official: Path, tmp_path: Path) -> None:
        with pytest.raises(ModalityError, match="modality must be given for a De-LightSAM"):
            convert(official, tmp_path / "out.pt", origin="delightsam")

    def test_refuses_a_modality_that_means_nothing(self, mobile_sam: Path, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="modality must be left out for mobilesam"):
            convert(mobile_sam, tmp_path / "out.pt", origin="mobilesam", modality="ct")

    def test_refuses_an_unknown_origin(self, official: Path, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="one of delightsam, mobilesam, sam; got 'medsam'"):
            convert(official, tmp_path / "out.pt", origin="medsam")
