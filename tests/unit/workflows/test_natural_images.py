"""Natural images of folders and tar files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from esp_medsam.errors import CorruptFileError, InputNotFoundError, OptionError
from esp_medsam.workflows.natural_images import image_slices


class TestImageSlices:
    def test_pictures_are_split_by_name_and_read_where_they_lie(self, images: Path) -> None:
        sections = image_slices(images, (32, 32), 0.4, seed=0)

        names = {key: [one.name for one in part.pictures] for key, part in sections.items()}
        assert len(names["training"]) == 4
        assert len(names["validation"]) == 2
        assert not set(names["training"]) & set(names["validation"])
        assert any(".tar/" in name for part in names.values() for name in part)
        for part in sections.values():
            for place in range(len(part)):
                assert part[place].image.shape == (3, 21, 32)

    def test_a_damaged_picture_is_named_and_the_next_one_shown(
        self, images: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (images / "deep" / "sa_4.jpg").write_bytes(b"no picture")
        part = image_slices(images, (32, 32), 0.01, seed=0)["training"]
        (place,) = [n for n, one in enumerate(part.pictures) if one.name == "deep/sa_4.jpg"]

        shown = part[place]

        assert torch.equal(shown.image, part[(place + 1) % len(part)].image)
        assert "deep/sa_4.jpg must be a picture that can be decoded" in caplog.text

    def test_where_none_can_be_decoded_the_run_ends(self, images: Path) -> None:
        for path in images.rglob("*.jpg"):
            path.write_bytes(b"no picture")
        (images / "sa_000000.tar").unlink()
        part = image_slices(images, (32, 32), 0.01, seed=0)["training"]

        with pytest.raises(CorruptFileError, match=r"deep/sa_\d\.jpg must be a picture"):
            part[0]

    @pytest.mark.parametrize(
        ("name", "kind", "rule"),
        [
            ("nothing", InputNotFoundError, "must be.*folder or tar file; there is none"),
            ("empty", OptionError, "must hold at least two pictures"),
            ("x.tar", CorruptFileError, "tar files"),
        ],
    )
    def test_refuses_what_holds_no_pictures(
        self, tmp_path: Path, name: str, kind: type[Exception], rule: str
    ) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "x.tar").write_bytes(b"1234" * 300)

        with pytest.raises(kind, match=rule):
            image_slices(tmp_path / name, (32, 32), 0.1, seed=0)
