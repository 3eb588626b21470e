from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from esp_medsam.errors import ClusterError
from esp_medsam.integrations.ray_batch.shared_storage import SharedStorage, token_in
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.bundle import TABLE
from esp_medsam.workflows.request import Request


@pytest.fixture
def storage(tmp_path: Path, table: ModalityTable, monkeypatch: pytest.MonkeyPatch) -> SharedStorage:
    monkeypatch.chdir(tmp_path)
    for name in ("in", "out", str(Path("bundle") / TABLE.parent)):
        Path(name).mkdir(parents=True)
    for name in ("weights.pt", "config.yaml", str(Path("bundle") / TABLE), "out/token"):
        Path(name).write_text(name)
    request = Request(
        root=Path("bundle"),
        table=table,
        configs=(Path("config.yaml"),),
        settings={"dataset_dir": "in", "output_dir": "out"},
    )
    return SharedStorage.of(request, "weights.pt", Path("out/token"))


class TestEnter:
    def test_goes_to_the_folder_of_the_run(
        self, storage: SharedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From which its relative paths are understood."""
        monkeypatch.chdir("/")

        storage.enter("node-1")

        assert Path.cwd() == tmp_path

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda: Path("in").rmdir(), "in must be .* on node-1 it is not there"),
            (
                lambda: Path("out/token").unlink(),
                "out must be .* on node-1 another folder is there",
            ),
            (lambda: Path("out").rename("other"), "out must be .* on node-1 it is not there"),
            (lambda: Path("weights.pt").unlink(), "weights.pt must be .* it cannot be read"),
            (lambda: Path("weights.pt").write_text("x"), "weights.pt must .* content is another"),
            (lambda: Path("config.yaml").write_text("x"), "config.yaml must .* content is another"),
        ],
    )
    def test_names_the_node_and_the_path_that_it_does_not_see(
        self, storage: SharedStorage, change: Callable[[], object], told: str
    ) -> None:
        change()

        with pytest.raises(ClusterError, match=told):
            storage.enter("node-1")

    def test_refuses_another_version(self, storage: SharedStorage) -> None:
        with pytest.raises(ClusterError, match=r"node-1 must have esp-medsam 9\.9"):
            replace(storage, version="9.9").enter("node-1")


class TestToken:
    def test_is_there_while_the_run_is(self, storage: SharedStorage) -> None:
        with token_in(Path("out")) as token:
            of_run = replace(storage, token=str(token))
            assert of_run.is_of_a_run
            of_run.enter("node-1")

        assert not of_run.is_of_a_run

    def test_of_a_killed_run_goes_when_the_next_one_begins(self, storage: SharedStorage) -> None:
        killed = token_in(Path("out"))
        of_killed = replace(storage, token=str(killed.__enter__()))

        with token_in(Path("out")) as token:
            assert not of_killed.is_of_a_run
            assert list(Path("out").glob(".*")) == [token]

    def test_is_believed_to_be_there_while_the_storage_does_not_answer(
        self, storage: SharedStorage
    ) -> None:
        assert replace(storage, token="x" * 5000).is_of_a_run
