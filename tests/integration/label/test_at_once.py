"""Many clients at once, a server that is killed, and batches."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import PIL.Image

from tests.support.label_server import LabelServer, agreement, labelmap, until
from tests.support.label_studies import ALL, CANARY, options


class TestAtOnce:
    def test_sixteen_clients_of_two_modalities_get_what_they_asked_for(
        self, server: LabelServer, tmp_path: Path, expected: Any
    ) -> None:
        def ask(number: int) -> float:
            folder = tmp_path / str(number)
            folder.mkdir()
            if number % 2:
                answer = server.infer("fundus", f"{CANARY}_eye")
                return agreement(labelmap(answer, folder, ".png"), expected["eye"])
            name = ("RAS", "LPS", "PIR")[number // 2 % 3]
            return agreement(labelmap(server.infer("mri", name, data=ALL), folder), expected[name])

        with ThreadPoolExecutor(16) as clients:
            assert min(clients.map(ask, range(16))) > 0.999

    def test_a_server_that_is_killed_starts_again_with_the_labels_it_had(
        self, server: LabelServer, home: Path
    ) -> None:
        with (home / "studies" / "RAS.nii.gz").open("rb") as label:
            answer = server.ask(
                "PUT", "/datastore/label?image=RAS&tag=final", files={"label": ("x.nii.gz", label)}
            )
        assert answer.status_code == 200
        before = server.get("/datastore/").json()["completed"]
        assert before > 0
        with ThreadPoolExecutor(1) as clients:
            running = clients.submit(server.infer, "mri", "LPS")
            server.kill()
            assert running.exception() is not None

        server.start()

        assert server.get("/datastore/").json()["completed"] == before
        assert server.infer("mri", "LPS", "json").status_code == 200


class TestBatch:
    def test_goes_on_past_an_image_that_fails(self, home: Path, tmp_path: Path) -> None:
        shutil.copytree(home / "studies", tmp_path / "studies")
        own = ["--modality", "mri", *options(home)]
        server = LabelServer(tmp_path / "app", str(tmp_path / "studies"), *own)
        server.start()
        try:
            answer = server.ask(
                "POST",
                "/batch/infer/mri?images=all&run_sync=true",
                json={"label_tag": "original", "targets": "all"},
            )

            assert answer.status_code == 200, answer.text
            results = answer.json()
            assert results["damaged"]["error"].startswith("E_CORRUPT: image ")
            assert set(results["LPS"]["params"]["label_names"]) > {"left_ventricle"}
            tags = server.get("/datastore/").json()["label_tags"]
            assert tags["original"] >= 3
        finally:
            server.kill()


class TestLabelsBesideABatch:
    def test_none_is_lost(self, home: Path, tmp_path: Path) -> None:
        """A batch saves labels in a process of its own while clients save theirs."""
        (tmp_path / "studies").mkdir()
        for number in range(24):
            picture = PIL.Image.new("RGB", (48, 40), (120, 40, 40 + number))
            picture.save(tmp_path / "studies" / f"{CANARY}_{number}.png")
        mask = PIL.Image.new("L", (48, 40))
        mask.paste(1, (5, 5, 20, 20))
        mask.save(tmp_path / "mask.png")
        own = ["--modality", "endoscopy", *options(home)]
        server = LabelServer(tmp_path / "app", str(tmp_path / "studies"), *own)
        server.start()
        try:
            begun = server.ask("POST", "/batch/infer/endoscopy?images=all", json={})
            assert begun.status_code == 200, begun.text

            def save(number: int) -> int:
                with (tmp_path / "mask.png").open("rb") as label:
                    return server.ask(
                        "PUT",
                        f"/datastore/label?image={CANARY}_{number}&tag=final",
                        files={"label": ("mask.png", label)},
                        data={"params": json.dumps({"label_info": [{"name": "polyp", "idx": 1}]})},
                    ).status_code

            with ThreadPoolExecutor(4) as clients:
                assert set(clients.map(save, range(24))) == {200}
            until(lambda: server.get("/batch/infer").json()["status"] == "DONE", seconds=120)
            labels = [
                one["labels"]
                for one in server.get("/datastore/?output=all").json()["objects"].values()
            ]
            assert len(labels) == 24
            for one in labels:
                assert set(one) == {"original", "final"}
                assert one["final"]["info"]["label_info"] == [{"name": "polyp", "idx": 1}]
            told = server.get("/batch/infer").text
            assert str(tmp_path) not in told
            for log in (server.log, *(tmp_path / "app" / "logs").iterdir()):
                assert CANARY not in log.read_text(errors="replace")
        finally:
            server.kill()
