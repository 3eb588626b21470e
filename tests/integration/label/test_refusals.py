"""Requests that the server refuses, and what it keeps to itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from esp_medsam.integrations.monai_label.settings import TOKEN_VARIABLE
from tests.support.label_server import LabelServer, until
from tests.support.label_studies import CANARY


class TestRefused:
    @pytest.mark.parametrize(
        ("model", "image", "params", "status", "said"),
        [
            ("nope", "RAS", {}, 404, "E_MODALITY: model must be one of dermoscopy"),
            ("", "RAS", {}, 404, "E_MODALITY: model must be one of dermoscopy"),
            ("ct", "none", {}, 404, "E_NOT_FOUND: image must be the id"),
            ("ct", "damaged", {}, 422, "E_CORRUPT: image "),
            ("fundus", "RAS", {"targets": "veins"}, 422, "E_TARGET: targets must be"),
            ("ct", "RAS", {"result_extension": ".png"}, 422, "E_OPTION: result_extension"),
            ("ct", "", {}, 422, "E_OPTION: image must be"),
            ("ct", "", {"image": "/etc/passwd"}, 422, "E_OPTION: image must be"),
            ("ct", "RAS", {"label_tag": "../x", "save_label": True}, 422, "E_OPTION: label_tag"),
        ],
    )
    def test_in_one_line_without_a_path(
        self,
        server: LabelServer,
        home: Path,
        model: str,
        image: str,
        params: dict[str, Any],
        status: int,
        said: str,
    ) -> None:
        answer = server.infer(model, image, "json", data={"params": json.dumps(params)})

        assert answer.status_code == status
        assert answer.json()["detail"].startswith(said)
        assert str(home) not in answer.text

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/datastore/image?image=..%2F..%2Fetc%2Fpasswd"),
            ("PUT", "/datastore/label?image=RAS&tag=..%2F..%2Fx"),
            ("PUT", "/datastore/image?image=..%2Fx"),
            ("POST", "/infer/ct?image=%2Fetc%2Fpasswd"),
            ("GET", "/logs/"),
            ("PUT", "/session/"),
            ("POST", "/infer/wsi/ct"),
            ("POST", "/infer/wsi_v2/ct"),
            ("PUT", "/model/ct"),
        ],
    )
    def test_a_request_that_reaches_out_of_the_folders(
        self, server: LabelServer, home: Path, method: str, path: str
    ) -> None:
        before = {p for p in home.rglob("*") if "cache" not in p.parts}

        answer = server.ask(method, path, files={"file": ("x.nii.gz", b"x"), "label": ("x", b"x")})

        assert answer.status_code in (400, 404)
        assert {p for p in home.rglob("*") if "cache" not in p.parts} == before

    @pytest.mark.parametrize(
        ("params", "name", "status"),
        [
            ('{"x": NaN}', "x.png", 422),
            ('{"x": "\\ud800"}', "x.png", 422),
            ("[" * 5000, "x.png", 422),
            ("{}", "x.html", 422),
            ("{}", "x." + "y" * 300, 422),
            ('{"model": "ct_clicks"}', "x.png", 422),
        ],
    )
    def test_a_label_that_would_spoil_the_list(
        self, server: LabelServer, home: Path, params: str, name: str, status: int
    ) -> None:
        answer = server.ask(
            "PUT",
            f"/datastore/label?image={CANARY}_eye&tag=x",
            files={"label": (name, b"x")},
            data={"params": params},
        )

        assert answer.status_code == status, answer.text
        assert server.get("/datastore/?output=all").status_code == 200
        until(lambda: not list((home / "app" / "tmp").glob("tmp*")))

    def test_the_next_image_has_no_path(self, server: LabelServer, home: Path) -> None:
        answer = server.ask("POST", "/activelearning/random", json={})

        assert answer.status_code == 200
        assert str(home) not in answer.text
        bad = server.ask("POST", "/activelearning/random", data='{"client_id": "\\ud800"}')
        assert bad.status_code == 422

    def test_a_header_that_names_a_file_elsewhere(self, server: LabelServer, home: Path) -> None:
        header = (
            "NRRD0004\ntype: uchar\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 4 4\n"
            "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nencoding: raw\n"
            f"data file: {home / 'studies' / 'RAS.nii.gz'}\n"
        )

        answer = server.infer("ct", files={"file": ("x.nrrd", header.encode())})

        assert answer.status_code == 422
        assert answer.json()["code"] in ("E_FORMAT", "E_CORRUPT")
        assert str(home) not in answer.text
        assert "RAS" not in answer.text


class TestSecrets:
    def test_without_the_token_nothing_is_answered(self, home: Path) -> None:
        server = LabelServer(
            home / "locked",
            str(home / "studies"),
            *("--modality", "fundus"),
            environment={TOKEN_VARIABLE: "open-sesame"},
        )
        server.headers = {"Authorization": "Bearer open-sesame"}
        server.start()
        try:
            assert list(server.get("/info/").json()["models"]) == ["fundus"]
            server.headers = {}
            for path in ("/info/", "/datastore/", "/datastore/image?image=RAS"):
                assert server.get(path).status_code == 401
            assert "sesame" not in server.log.read_text()
        finally:
            server.kill()

    def test_names_of_files_stay_out_of_the_logs(self, server: LabelServer, home: Path) -> None:
        """After all that the tests above asked for."""
        server.infer("ct", f"{CANARY}_none")
        server.infer("mri", f"{CANARY}_eye")

        logs = [server.log, *(home / "app" / "logs").iterdir()]

        assert logs
        for log in logs:
            assert CANARY not in log.read_text(errors="replace")
