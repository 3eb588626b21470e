"""Studies of a PACS on the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel
import numpy as np
import PIL.Image
from pydicom import dcmread

from tests.support.label_server import LabelServer, labelmap
from tests.support.label_studies import ALL, options
from tests.support.shipped_dicom import copy_shipped, shipped


_nib: Any = nibabel


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
