"""MONAI Label's released server over HTTP: results, failures, attacks, and clients at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import requests
import SimpleITK
import skimage
from pydicom import dcmread

import esp_medsam
from esp_medsam.integrations.monai_label.environment import default_environment, python_of
from esp_medsam.integrations.monai_label.settings import TOKEN_VARIABLE
from esp_medsam.workflows.bundle import find_bundle
from tests.support.label_server import LabelServer, skip_without_environment
from tests.support.shipped_dicom import copy_shipped, shipped


CANARY = "CANARY_PATIENT"

_nib: Any = nibabel


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with studies: a picture, volumes of three orientations, and one that is damaged."""
    skip_without_environment()
    home = tmp_path_factory.mktemp("label")
    studies = home / "studies"
    studies.mkdir()
    shutil.copy(Path(skimage.__path__[0], "data", "retina.jpg"), studies / f"{CANARY}_eye.jpg")
    upright = _nib.Nifti1Image(heart(), np.diag([-3, -3, 8, 1]))
    for code in ("RAS", "LPS", "PIR"):
        turned = upright.as_reoriented(
            _nib.orientations.ornt_transform(
                _nib.io_orientation(upright.affine), _nib.orientations.axcodes2ornt(code)
            )
        )
        _nib.save(turned, studies / f"{code}.nii.gz")
    (studies / "damaged.nii.gz").write_bytes((studies / "RAS.nii.gz").read_bytes()[:500])
    shutil.copytree(find_bundle(), home / "bundle")
    config = home / "bundle" / "configs" / "inference.yaml"
    config.write_text(
        config.read_text().replace("input_size: [448, 448]", "input_size: [128, 128]")
    )
    return home


def heart() -> npt.NDArray[np.int16]:
    """Return a short-axis view of a heart, as simple as the shipped weights recognize it."""
    x, y = np.mgrid[-1:1:64j, -1:1:56j]
    values = np.where((x / 0.9) ** 2 + (y / 0.85) ** 2 < 1, 90, 30)
    radius = np.hypot(x - 0.15, y - 0.1)
    right = ((x + 0.3) / 0.3) ** 2 + ((y - 0.15) / 0.25) ** 2 < 1
    values = np.select([radius < 0.24, radius < 0.38, right], [230, 60, 220], values)
    noise = np.random.default_rng(1).normal(0, 5, (64, 56, 3))
    return (values[..., None] + noise).astype(np.int16)


def options(home: Path) -> list[str]:
    return ["--bundle", str(home / "bundle"), "--trust_config"]


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[LabelServer]:
    server = LabelServer(home / "app", str(home / "studies"), *options(home))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def expected(home: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """What the command finds in the same images."""
    with esp_medsam.Segmenter(bundle=home / "bundle", trust_config=True, device="cpu") as segmenter:
        studies = home / "studies"
        found = {
            name: segmenter.segment(studies / f"{name}.nii.gz", modality="mri", targets="all")
            for name in ("RAS", "LPS", "PIR")
        }
        found["eye"] = segmenter.segment(studies / f"{CANARY}_eye.jpg", modality="fundus")
        assert [len(np.unique(found[name].labelmap)) for name in ("RAS", "LPS", "PIR")] == [4] * 3
        return {name: result.labelmap for name, result in found.items()}


def labelmap(answer: requests.Response, folder: Path, ending: str = ".nii.gz") -> Any:
    """Return the array of an answer, in the axes of its file."""
    assert answer.status_code == 200, answer.text
    file = folder / f"answer{ending}"
    file.write_bytes(answer.content)
    if ending == ".png":
        return np.asarray(PIL.Image.open(file))
    image = SimpleITK.ReadImage(file)
    return SimpleITK.GetArrayFromImage(image).transpose()


def agreement(first: Any, second: Any) -> float:
    assert first.shape == second.shape
    return float((first == second).mean())


def until(is_so: Callable[[], bool], seconds: int = 10) -> None:
    """Wait until something is so; an answer arrives a little before the server tidies up."""
    for _ in range(10 * seconds):
        if is_so():
            return
        time.sleep(0.1)
    assert is_so()


class TestInfo:
    def test_each_modality_is_a_model_with_labels_and_colors_of_the_table(
        self, server: LabelServer
    ) -> None:
        table = esp_medsam.modalities()

        models = server.get("/info/").json()["models"]

        assert list(models) == list(table.names)
        for name in table.names:
            labels = {target.name: target.label for target in table[name].targets}
            assert models[name]["labels"] == labels
            assert models[name]["config"]["targets"][0] == "ready"
            assert list(models[name]["colors"]) == list(labels)

    def test_the_studies_are_listed(self, server: LabelServer) -> None:
        images = server.get("/datastore/?output=all").json()["objects"]

        assert set(images) == {"RAS", "LPS", "PIR", "damaged", f"{CANARY}_eye"}


ALL = {"params": json.dumps({"targets": "all"})}


class TestInfer:
    @pytest.mark.parametrize("name", ["RAS", "LPS", "PIR"])
    def test_a_volume_comes_back_on_its_own_grid_as_the_command_makes_it(
        self, server: LabelServer, home: Path, tmp_path: Path, expected: Any, name: str
    ) -> None:
        answer = server.infer("mri", name, data=ALL)

        assert agreement(labelmap(answer, tmp_path), expected[name]) > 0.999
        made = _nib.load(tmp_path / "answer.nii.gz")
        image = _nib.load(home / "studies" / f"{name}.nii.gz")
        np.testing.assert_array_equal(made.affine, image.affine)

    @pytest.mark.parametrize("ending", [".nrrd", ".seg.nrrd", ".nii", ".mha"])
    def test_other_file_types_hold_the_same(
        self, server: LabelServer, tmp_path: Path, expected: Any, ending: str
    ) -> None:
        params = {"params": json.dumps({"targets": "all", "result_extension": ending})}

        answer = server.infer("mri", "LPS", data=params)

        assert agreement(labelmap(answer, tmp_path, ending), expected["LPS"]) > 0.999

    def test_a_picture_comes_back_on_its_own_grid(
        self, server: LabelServer, tmp_path: Path, expected: Any
    ) -> None:
        answer = server.infer("fundus", f"{CANARY}_eye")

        assert agreement(labelmap(answer, tmp_path, ".png"), expected["eye"]) > 0.999

    def test_json_tells_labels_confidence_and_what_was_found(self, server: LabelServer) -> None:
        told = server.infer("fundus", f"{CANARY}_eye", "json").json()

        assert told["label_names"] == {"vessels": 1}
        assert told["warnings"] == []
        assert 0.5 <= told["confidence"]["vessels"] <= 1.0
        assert told["found"]["vessels"]["voxels"] > 1000

    def test_both_come_in_parts(self, server: LabelServer) -> None:
        answer = server.infer("fundus", f"{CANARY}_eye", "all")

        assert answer.headers["content-type"].startswith("multipart/form-data")
        assert b'name="params"' in answer.content
        assert b"PNG" in answer.content

    def test_an_image_may_come_with_the_request(
        self, server: LabelServer, home: Path, tmp_path: Path, expected: Any
    ) -> None:
        with (home / "studies" / "PIR.nii.gz").open("rb") as image:
            answer = server.infer("mri", data=ALL, files={"file": ("x.nii.gz", image)})

        assert agreement(labelmap(answer, tmp_path), expected["PIR"]) > 0.999
        temporary = home / "app" / "tmp"
        until(lambda: not any(path.name.startswith("tmp") for path in temporary.iterdir()))


class TestRefused:
    @pytest.mark.parametrize(
        ("model", "image", "params", "status", "said"),
        [
            ("nope", "RAS", {}, 404, "E_MODALITY: model must be one of dermoscopy"),
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


class TestSlicer:
    """With the client library of the module for 3D Slicer."""

    @pytest.mark.parametrize(
        ("model", "image", "slices"),
        [("mri", "LPS", 3), ("mri", "RAS", 3), ("fundus", f"{CANARY}_eye", 1)],
    )
    def test_segments_have_their_own_names_and_a_correction_is_kept(
        self, server: LabelServer, tmp_path: Path, model: str, image: str, slices: int
    ) -> None:
        """Of MRI, the targets that are ready have the values 2 to 4."""
        script = Path(__file__).parents[1] / "support" / "slicer_client.py"
        python = python_of(default_environment())
        ran = subprocess.run(
            [str(python), str(script), server.url, model, image, str(tmp_path)],
            capture_output=True,
            check=False,
            text=True,
        )

        assert ran.returncode == 0, ran.stderr
        told = json.loads(ran.stdout.splitlines()[-1])
        nothing = dict.fromkeys(told["labels"], 0)
        assert told["shown"] == nothing | told["found"]
        assert all(told["found"].values())
        assert told["drawn"] == 4 * 5 * slices
        assert told["saved"]["label"] == image

    @pytest.mark.parametrize(
        ("params", "said"),
        [
            ({"label_info": [{"name": "lever", "idx": 1}]}, "E_TARGET: label_info must be one of"),
            ({"label_info": [{"name": "glioma", "idx": 9}]}, "E_OPTION: label must only hold"),
        ],
    )
    def test_a_label_that_is_not_clear_is_refused(
        self, server: LabelServer, home: Path, params: dict[str, Any], said: str
    ) -> None:
        values = np.ones((64, 56, 3), np.uint8)
        affine = _nib.load(home / "studies" / "LPS.nii.gz").affine
        _nib.save(_nib.Nifti1Image(values, affine), home / "wrong.nii.gz")
        with (home / "wrong.nii.gz").open("rb") as label:
            answer = server.ask(
                "PUT",
                "/datastore/label?image=LPS&tag=final",
                files={"label": ("label.nii.gz", label)},
                data={"params": json.dumps({"model": "mri", **params})},
            )

        assert answer.status_code == 422
        assert answer.json()["detail"].startswith(said)


@pytest.fixture(scope="module")
def clicked(home: Path) -> Iterator[LabelServer]:
    """A server that offers clicks."""
    own = ["--clicks", "--modality", "mri", "--modality", "fundus"]
    server = LabelServer(home / "clicked", str(home / "studies"), *own, *options(home))
    server.start()
    yield server
    server.kill()


class TestClicks:
    def test_are_offered_as_models_of_their_own(self, clicked: LabelServer) -> None:
        models = clicked.get("/info/").json()["models"]

        assert list(models) == ["mri", "fundus", "mri_clicks", "fundus_clicks"]
        assert (models["mri_clicks"]["type"], models["mri_clicks"]["dimension"]) == ("deepgrow", 2)

    @pytest.mark.parametrize("name", ["RAS", "LPS"])
    def test_segment_the_slice_that_they_lie_in(
        self, clicked: LabelServer, tmp_path: Path, expected: Any, name: str
    ) -> None:
        value = 2  # left ventricle
        inside = np.argwhere(expected[name][:, :, 1] == value)
        point = [int(n) for n in np.median(inside, axis=0)]
        sent = {
            "label": "left_ventricle",
            "foreground": [[*point, 1]],
            "background": [],
            "slice": 1,
        }

        answer = clicked.infer("mri_clicks", name, data={"params": json.dumps(sent)})

        mask = labelmap(answer, tmp_path)
        assert mask.shape == expected[name].shape
        assert not mask[:, :, [0, 2]].any()
        both = np.logical_and(mask[:, :, 1], expected[name][:, :, 1] == value).sum()
        assert 2 * both / (mask[:, :, 1].sum() + len(inside)) > 0.9

    def test_of_a_picture_count_columns_first(
        self, clicked: LabelServer, tmp_path: Path, expected: Any
    ) -> None:
        rows, columns = np.nonzero(expected["eye"])
        sent = {"label": "vessels", "foreground": [[int(columns[9]), int(rows[9]), 0]]}

        answer = clicked.infer("fundus_clicks", f"{CANARY}_eye", data={"params": json.dumps(sent)})

        mask = labelmap(answer, tmp_path, ".png")
        assert agreement(mask, expected["eye"]) > 0.95

    @pytest.mark.parametrize(
        ("sent", "said"),
        [
            (
                {"label": "liver", "foreground": [[1, 1, 1]]},
                "E_TARGET: label must be one of glioma",
            ),
            ({"label": "glioma"}, "E_OPTION: foreground, background and roi"),
            ({"label": "glioma", "foreground": [[99, 1, 1]]}, "E_OPTION: A click must lie in"),
        ],
    )
    def test_that_cannot_be_used_are_refused(
        self, clicked: LabelServer, sent: dict[str, Any], said: str
    ) -> None:
        answer = clicked.infer("mri_clicks", "RAS", data={"params": json.dumps(sent)})

        assert answer.status_code == 422
        assert answer.json()["detail"].startswith(said)


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
    def test_goes_on_past_an_image_that_fails(self, server: LabelServer) -> None:
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


class TestDicom:
    def test_series_of_a_pacs_are_shown_segmented_and_corrected(
        self, home: Path, tmp_path: Path, start_orthanc: Any
    ) -> None:
        pacs = start_orthanc()
        pacs.send(shipped("CT_small.dcm"), shipped("MR_small.dcm"))
        server = LabelServer(tmp_path / "app", pacs.url, *options(home))
        server.start()
        try:
            uids = self.listed(server)
            ct, mri = (
                next(uid for uid in uids if server.infer(model, uid, "json").status_code == 200)
                for model in ("ct", "mri")
            )
            assert ct != mri
            seg = server.infer("ct", ct, "dicom_seg", data=ALL)
            assert seg.content[128:132] == b"DICM"
            shown = server.get(f"/datastore/image?image={ct}")
            assert shown.status_code == 200
            (tmp_path / "image.nii.gz").write_bytes(shown.content)
            image = _nib.load(tmp_path / "image.nii.gz")
            mask = np.zeros(image.shape, np.uint8)
            mask[40:60, 50:70] = 5
            _nib.save(_nib.Nifti1Image(mask, image.affine), tmp_path / "label.nii.gz")
            with (tmp_path / "label.nii.gz").open("rb") as label:
                told = {"label_info": [{"name": "liver", "idx": 5}]}
                answer = server.ask(
                    "PUT",
                    f"/datastore/label?image={ct}&tag=final",
                    files={"label": ("label.nii.gz", label)},
                    data={"params": json.dumps(told)},
                )
            assert answer.status_code == 200, answer.text
            (instance,) = pacs.find("SEG")
            stored = hd.seg.segread(pacs.save(instance, tmp_path / "seg.dcm"))
            assert [each.SegmentLabel for each in stored.SegmentSequence] == ["Liver"]
            rows, columns = np.nonzero(stored.pixel_array.squeeze())
            assert (rows.min(), rows.max(), columns.min(), columns.max()) == (50, 69, 40, 59)
            assert "Doe" not in server.get("/datastore/?output=all").text
        finally:
            server.kill()

    def test_pictures_of_a_pacs_are_segmented_and_corrected_as_pictures(
        self, home: Path, tmp_path: Path, start_orthanc: Any
    ) -> None:
        pacs = start_orthanc()
        scan = shipped("examples_rgb_color.dcm")
        photograph = copy_shipped(
            tmp_path / "photograph.dcm",
            like="SC_rgb_dcmtk_+eb+cr.dcm",
            Modality="ES",
            SeriesInstanceUID="1.2.826.0.1.3680043.8.498.1",
        )
        pacs.send(scan, photograph)
        server = LabelServer(tmp_path / "app", pacs.url, *options(home))
        server.start()
        try:
            for model, path in (("ultrasound", scan), ("endoscopy", photograph)):
                uid, shape = dcmread(path).SeriesInstanceUID, dcmread(path).pixel_array.shape[:2]
                found = labelmap(server.infer(model, uid, data=ALL), tmp_path, ".png")
                assert found.shape == shape
                shown = labelmap(server.get(f"/datastore/image?image={uid}"), tmp_path, ".png")
                assert shown.shape == (*shape, 3)
                mask = np.zeros(shape, np.uint8)
                mask[10:20, 30:60] = 1
                PIL.Image.fromarray(mask).save(tmp_path / "label.png")
                before = set(pacs.find("SEG"))
                with (tmp_path / "label.png").open("rb") as label:
                    answer = server.ask(
                        "PUT",
                        f"/datastore/label?image={uid}&tag=final",
                        files={"label": ("label.png", label)},
                    )
                assert answer.status_code == 200, answer.text
                (instance,) = set(pacs.find("SEG")) - before
                stored = hd.seg.segread(pacs.save(instance, tmp_path / "seg.dcm"))
                rows, columns = np.nonzero(stored.pixel_array.squeeze())
                assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 19, 30, 59)
        finally:
            server.kill()

    @staticmethod
    def listed(server: LabelServer) -> list[str]:
        """Return the ids of all images, one after the other as they are offered."""
        found: dict[str, None] = {}
        for _ in range(20):
            sample = server.ask("POST", "/activelearning/random", json={}).json()
            found[sample["id"]] = None
            if len(found) == 2:
                break
        return list(found)
