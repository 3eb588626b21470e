"""MONAI Label's list of images and labels, kept safe from two processes and from half a write."""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.datastore import local
from monailabel.datastore.local import DataModel, LocalDatastore

from esp_medsam.errors import FormatError, InputNotFoundError, OutputExistsError
from esp_medsam.io.atomic import atomic_file, output_error
from esp_medsam.io.formats import SUFFIXES, is_image


# A lock that is held may be asked for again by the same thread: MONAI Label's methods call others.
local.FileLock = functools.partial(FileLock, is_singleton=True)


class SharedStore(LocalDatastore):  # type: ignore[misc]  # MONAI Label has no types
    """A list that several processes change.

    MONAI Label's own is read once, and written as a whole: what another process, such as a batch,
    added meanwhile would be lost, and a write that is broken off leaves a list that nothing reads.
    """

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the list, as it is on the disk now."""
        with local.FileLock(self._lock_file):
            self._init_from_datastore_file()
            yield

    def _update_datastore_file(self, lock: bool = True) -> None:
        del lock  # MONAI Label's own methods hold it already, and may ask for it again
        content = self._datastore.model_dump(exclude={"base_path"})
        text = json.dumps(content, indent=2, default=str, allow_nan=False)
        with local.FileLock(self._lock_file):
            self._ignore_event_config = True
            with atomic_file(Path(self._datastore_config_path)) as file:
                file.write(text.encode())
            self._config_ts = Path(self._datastore_config_path).stat().st_mtime

    def _reread(self) -> None:
        """Take over what another process changed."""
        with self._alone():
            pass

    def json(self) -> Any:
        """Return the list as plain data, as it is now."""
        self._reread()
        return super().json()

    def status(self) -> dict[str, Any]:
        """Return how many images and labels there are now."""
        self._reread()
        return dict(super().status())

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """Return the labels of an image by their tags, as they are now."""
        self._reread()
        return dict(super().get_labels_by_image_id(image_id))

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """Return what is known about a label now."""
        self._reread()
        return dict(super().get_label_info(label_id, label_tag))

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Return the path of a label that is there now; empty if none is."""
        self._reread()
        return str(super().get_label_uri(label_id, label_tag))

    def _reconcile_datastore(self) -> None:
        with self._alone():
            super()._reconcile_datastore()

    def keep_label(self, image_id: str, label: Path, tag: str, info: dict[str, Any]) -> str:
        """Keep the label of an image, in place of an earlier one with the tag.

        Raises:
            InputNotFoundError: If there is no such image.
            OutputError: If it cannot be written.
        """
        with self._alone():
            image = self._datastore.objects.get(image_id)
            if image is None:
                msg = "image must be the id of an image of the studies."
                raise InputNotFoundError(msg)
            folder = Path(self._datastore.label_path(tag))
            _, ending = self._to_id(label.name)
            path = folder / self._filename(image_id, ending)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with atomic_file(path) as file, label.open("rb") as sent:
                    shutil.copyfileobj(sent, file)
                earlier = image.labels.get(tag)
                if earlier is not None and earlier.ext != ending:
                    (folder / self._filename(image_id, earlier.ext)).unlink(missing_ok=True)
            except OSError as error:
                raise output_error(path, error) from error
            told = {**info, "ts": int(time.time()), "name": path.name}
            image.labels[tag] = DataModel(info=told, ext=ending)
            self._update_datastore_file()
        return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label."""
        with self._alone():
            super().remove_label(label_id, label_tag)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Add an image.

        Raises:
            FormatError: If its ending is that of no image.
            OutputExistsError: If there is one with its id: images are never replaced.
        """
        if not is_image(image_filename):
            msg = f"image must end in one of {', '.join(SUFFIXES)}."
            raise FormatError(msg)
        with self._alone():
            if image_id in self._datastore.objects:
                msg = "image must be a new id; there is an image with it already."
                raise OutputExistsError(msg)
            return str(super().add_image(image_id, image_filename, image_info))

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is known about an image."""
        with self._alone():
            super().update_image_info(image_id, info)
