from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from esp_medsam.errors import CheckpointError, CheckpointHashError
from esp_medsam.io import weights_record as module
from esp_medsam.io.weights_record import (
    check_hash,
    hash_of_weights,
    pin_in_bundle,
    read_weights_record,
    sidecar_of,
    write_sidecar,
    write_weights_record,
)


CHECK = {"ct": {"liver": [-1.5, 2.25], "kidney": [0.0]}}
SHA256 = hashlib.sha256(b"weights").hexdigest()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    (tmp_path / "model.pt").write_bytes(b"weights")
    return tmp_path / "model.pt"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with weights and metadata that say nothing of them."""
    for name in ("models", "configs"):
        (tmp_path / "bundle" / name).mkdir(parents=True)
    (tmp_path / "bundle" / "models" / "model.pt").write_bytes(b"weights")
    metadata = {"name": "a bundle", "shape": ["32*n", "32*n"]}
    (tmp_path / "bundle" / "configs" / "metadata.json").write_text(json.dumps(metadata, indent=4))
    return tmp_path / "bundle"


class TestWriteWeightsRecord:
    def test_goes_beside_weights_that_no_bundle_lists(self, bundle: Path) -> None:
        weights = bundle / "models" / "model.pt"

        write_weights_record(weights, CHECK)

        record = read_weights_record(weights)
        assert record is not None
        assert record.path == sidecar_of(weights)

    def test_is_renewed_in_the_metadata_that_list_them(self, bundle: Path) -> None:
        weights = bundle / "models" / "model.pt"
        pin_in_bundle(weights, None)
        weights.write_bytes(b"other weights")

        write_weights_record(weights, CHECK)

        record = read_weights_record(weights)
        assert record is not None
        assert record.path == bundle / "configs" / "metadata.json"
        assert (record.sha256, record.self_check) == (hash_of_weights(weights), CHECK)
        assert not sidecar_of(weights).exists()


class TestSidecar:
    def test_says_again_what_was_written(self, weights: Path) -> None:
        write_sidecar(weights, CHECK)

        record = read_weights_record(weights)

        assert record is not None
        assert record.path == sidecar_of(weights) == weights.with_name("model.pt.json")
        assert record.sha256 == SHA256
        assert record.self_check == CHECK

    def test_may_have_no_self_check(self, weights: Path) -> None:
        write_sidecar(weights, None)

        record = read_weights_record(weights)

        assert record is not None
        assert record.self_check is None

    def test_is_readable_with_a_line_for_each_target(self, weights: Path) -> None:
        write_sidecar(weights, CHECK)

        assert '"liver": [-1.5, 2.25],\n' in sidecar_of(weights).read_text(encoding="ascii")

    def test_need_not_be_there(self, weights: Path) -> None:
        assert read_weights_record(weights) is None
        assert read_weights_record("model.pt") is None

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"[]",
            b'{"sha256": 3}',
            b'{"sha256": "12ab"}',
            json.dumps({"sha256": SHA256, "self_check": []}).encode(),
            json.dumps({"sha256": SHA256, "self_check": {"ct": [1]}}).encode(),
            json.dumps({"sha256": SHA256, "self_check": {"ct": {"liver": ["x"]}}}).encode(),
            b"[" * 10**5,
        ],
    )
    def test_that_is_none_is_refused(self, weights: Path, content: bytes) -> None:
        sidecar_of(weights).write_bytes(content)

        with pytest.raises(CheckpointError, match=r"model\.pt\.json must be JSON, and readable"):
            read_weights_record(weights)


class TestBundle:
    def test_is_asked_before_a_sidecar(self, bundle: Path) -> None:
        weights = bundle / "models" / "model.pt"
        write_sidecar(weights, None)
        pin_in_bundle(weights, CHECK)

        record = read_weights_record(weights)

        assert record is not None
        assert record.path == bundle / "configs" / "metadata.json"
        assert record.self_check == CHECK

    def test_says_nothing_of_weights_that_it_does_not_list(self, bundle: Path) -> None:
        pin_in_bundle(bundle / "models" / "model.pt", None)
        (bundle / "models" / "other.pt").write_bytes(b"others")

        assert read_weights_record(bundle / "models" / "other.pt") is None

    def test_keeps_all_else_of_its_metadata(self, bundle: Path) -> None:
        pin_in_bundle(bundle / "models" / "model.pt", CHECK)

        metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
        entry = {"sha256": SHA256, "self_check": CHECK}
        assert metadata.pop("weights") == {"models/model.pt": entry}
        assert metadata == {"name": "a bundle", "shape": ["32*n", "32*n"]}

    def test_is_found_through_its_path_alone(
        self, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        weights = bundle / "models" / "model.pt"
        pin_in_bundle(weights, None)
        store = tmp_path / "store.pt"
        weights.rename(store)
        weights.symlink_to(store)
        monkeypatch.chdir(bundle)

        for path in (weights, Path("models/model.pt"), Path("configs/../models/model.pt")):
            assert read_weights_record(path) is not None

    @pytest.mark.parametrize("listed", [[], {"models/model.pt": []}, {"models/model.pt": {}}, 3])
    def test_that_lists_what_is_no_record_is_refused(self, bundle: Path, listed: Any) -> None:
        (bundle / "configs" / "metadata.json").write_text(json.dumps({"weights": listed}))

        with pytest.raises(CheckpointError, match="must be JSON, and readable; one is not"):
            read_weights_record(bundle / "models" / "model.pt")


class TestCheckHash:
    def test_f18_weights_of_another_hash_are_refused_with_what_to_do(self, weights: Path) -> None:
        write_sidecar(weights, None)
        record = read_weights_record(weights)
        assert record is not None
        check_hash(weights, record)

        weights.write_bytes(b"Weights")

        found = hashlib.sha256(b"Weights").hexdigest()[:12]
        with pytest.raises(
            CheckpointHashError,
            match=rf"SHA-256 {SHA256[:12]}; got {found}\. Copy it again; .* remove model\.pt\.js",
        ):
            check_hash(weights, record)

    def test_f18_the_remedy_in_a_bundle_names_what_writes_the_entry_anew(
        self, bundle: Path
    ) -> None:
        weights = bundle / "models" / "model.pt"
        pin_in_bundle(weights, None)
        weights.write_bytes(b"others")
        record = read_weights_record(weights)
        assert record is not None

        with pytest.raises(CheckpointHashError, match=r"call .*pin_weights\('.*bundle'\)"):
            check_hash(weights, record)


class TestHashOfWeights:
    def test_is_taken_once_for_as_long_as_nothing_is_written(
        self, weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        taken: list[Path] = []

        def count(path: Path) -> str:
            taken.append(path)
            return hashlib.sha256(path.read_bytes()).hexdigest()

        monkeypatch.setattr(module, "sha256_of", count)
        module._hash_of.cache_clear()

        assert hash_of_weights(weights) == hash_of_weights(str(weights)) == SHA256
        weights.write_bytes(b"Weights")
        os.utime(weights, ns=(0, 1))
        assert hash_of_weights(weights) != SHA256
        assert len(taken) == 2

    def test_says_that_there_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            hash_of_weights(tmp_path / "none.pt")
