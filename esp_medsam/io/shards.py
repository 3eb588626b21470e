"""Checksummed store of arrays on disk, filled by many processes and memory-mapped."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from esp_medsam.errors import DiskFullError, EspMedSamError, OptionError, OutputError
from esp_medsam.identity import sha256_of
from esp_medsam.io.atomic import atomic_file, clear_temporaries, output_error
from esp_medsam.io.folder import TEMPORARY_PREFIX
from esp_medsam.plain_data import read_json


logger = logging.getLogger(__name__)

Arrays = Mapping[str, npt.NDArray[Any]]

SHARD_BYTES = 2**27
"""Bytes that are collected before a shard is written: what a killed process may lose."""

MANIFEST = "store.json"
_SUFFIX = ".safetensors"
_MOST_MANIFEST = 2**16


class ShardStore:
    """Named arrays by key, in safetensors shards, each named by the SHA-256 of its content.

    Shards are written atomically, so a killed process loses only what it had not written yet. Each
    process writes its own shards: several may fill one store without locks, provided that they put
    the same arrays under the same key. A shard whose content does not match its name is skipped
    with a warning, so that its keys are put again.

    An unpickled store, as in the workers of a data loader, reads the same files: nothing is copied.

    Args:
        folder: Folder of the shards; created if missing.
        identity: Everything that the arrays depend on and keys do not state. A store of another
            identity is refused.
        argument: Name of the user's option for the folder, for messages.
        verify: Whether to hash existing shards; otherwise only their length is checked.
        shard_bytes: Size at which a shard is written, in bytes.

    Raises:
        OptionError: If the folder holds a store of another identity, or something else.
        OutputError: If it cannot be read or written; a DiskFullError if there is no room.
    """

    def __init__(
        self,
        folder: str | Path,
        identity: Mapping[str, str],
        *,
        argument: str = "cache_dir",
        verify: bool = True,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.folder = Path(folder)
        self.verify = verify
        self.shard_bytes = shard_bytes
        self._waiting: dict[str, dict[str, npt.NDArray[Any]]] = {}
        self._held = 0  # bytes not yet written
        self._places: dict[str, str] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._seen: set[str] = set()
        self._open: dict[str, Any] = {}
        self._check_identity(dict(identity), argument)
        clear_temporaries(self.folder)
        self.refresh()

    def __len__(self) -> int:
        return len(self._places.keys() | self._waiting.keys())

    def __contains__(self, key: object) -> bool:
        return key in self._places or key in self._waiting

    def __iter__(self) -> Iterator[str]:
        return iter(self._places.keys() | self._waiting.keys())

    def __getitem__(self, key: str) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of a key, by name.

        Raises:
            KeyError: If there is no such key.
            OutputError: If its shard can no longer be read.
        """
        names = self._waiting[key] if key in self._waiting else self._names[key]
        return {name: self.array(key, name) for name in names}

    def array(self, key: str, name: str) -> npt.NDArray[Any]:
        """Return one of the arrays of a key, without reading the others.

        Raises:
            KeyError: If there is no such key, or no such array.
            OutputError: If its shard can no longer be read.
        """
        if key in self._waiting:
            return self._waiting[key][name]
        shard = self._places[key]
        if name not in self._names[key]:
            raise KeyError(name)
        file = self._open.get(shard)
        if file is None:
            path = self.folder / shard
            try:
                file = self._open[shard] = safe_open(path, framework="np")
            except (OSError, SafetensorError) as error:
                msg = f"{path} must not change while it is read; got: {error}. Run again."
                raise OutputError(msg) from error
        array: npt.NDArray[Any] = file.get_tensor(f"{key}/{name}")
        return array

    def put(self, key: str, arrays: Arrays) -> None:
        """Keep arrays under a key; they go to disk when their shard is full, or at ``flush``.

        Args:
            key: Any text.
            arrays: At least one, by names without a slash.

        Raises:
            ValueError: If there are no arrays.
            OutputError: If a shard cannot be written; a DiskFullError if there is no room.
        """
        if not arrays:
            msg = f"{key} must have at least one array; got none."
            raise ValueError(msg)
        kept = {name: np.asarray(each, order="C") for name, each in arrays.items()}
        replaced = self._waiting.get(key, {})
        self._waiting[key] = kept
        self._held += sum(a.nbytes for a in kept.values())
        self._held -= sum(a.nbytes for a in replaced.values())
        if self._held >= self.shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write all pending arrays as one shard.

        Raises:
            OutputError: If it cannot be written; a DiskFullError if there is no room.
        """
        if not self._waiting:
            return
        content = save(
            {
                f"{key}/{name}": each
                for key, arrays in self._waiting.items()
                for name, each in arrays.items()
            }
        )
        shard = hashlib.sha256(content).hexdigest() + _SUFFIX
        with atomic_file(self.folder / shard) as file:
            file.write(content)
        self._add(shard)
        self._waiting.clear()
        self._held = 0

    def refresh(self) -> None:
        """Add the shards that have appeared, from this process and from others."""
        try:
            names = sorted(path.name for path in self.folder.iterdir() if path.suffix == _SUFFIX)
        except OSError as error:
            raise output_error(self.folder, error) from error
        for name in names:
            if name in self._seen:
                continue
            reason = self._damage(name)
            if reason:
                self._seen.add(name)
                logger.warning("%s is ignored and made again: %s.", self.folder / name, reason)
            else:
                self._add(name)

    def __enter__(self) -> ShardStore:
        return self

    def __exit__(self, _: object, error: object, trace: object) -> None:
        """Write pending arrays, however the block ended, unless the disk is full."""
        if not isinstance(error, DiskFullError):
            self.flush()

    def __getstate__(self) -> dict[str, Any]:
        """Write pending arrays, and omit open files, because each process opens its own."""
        self.flush()
        return {**self.__dict__, "_open": {}}

    def _check_identity(self, identity: dict[str, str], argument: str) -> None:
        """Write the identity into a new store, or compare it with that of an existing one."""
        path = self.folder / MANIFEST
        try:
            if not path.exists():
                if self.folder.is_dir() and self._is_foreign() and not path.exists():
                    msg = (
                        f"{argument} must be an empty folder, or one that this command filled; "
                        f"{self.folder} holds something else."
                    )
                    raise OptionError(msg)
                with atomic_file(path) as file:
                    file.write((json.dumps(identity, indent=1, sort_keys=True) + "\n").encode())
            found = read_json(path, most_bytes=_MOST_MANIFEST, most_values=_MOST_MANIFEST)
        except EspMedSamError:
            raise
        except OSError as error:
            raise output_error(path, error) from error
        except ValueError as error:
            msg = f"{argument} must hold a store; {path} is damaged: {error}. Remove the folder."
            raise OptionError(msg) from error
        if found != identity:
            stated = found if isinstance(found, dict) else {}
            other = sorted(k for k in stated | identity if stated.get(k) != identity.get(k))
            msg = (
                f"{argument} must have been made with the same {', '.join(other)}; "
                f"{self.folder} was not. Choose another folder, or remove it."
            )
            raise OptionError(msg)

    def _is_foreign(self) -> bool:
        """Whether the folder holds anything but temporary files of starting or killed processes."""
        names = (path.name for path in self.folder.iterdir())
        return not all(name.startswith(TEMPORARY_PREFIX) for name in names)

    def _damage(self, name: str) -> str | None:
        """Return why a shard cannot be used; None if it can."""
        path = self.folder / name
        try:
            if self.verify and sha256_of(path) + _SUFFIX != name:
                return "its content is not what was written"
            with safe_open(path, framework="np"):
                return None
        except OSError as error:
            return error.strerror or type(error).__name__
        except SafetensorError as error:
            return str(error)

    def _add(self, name: str) -> None:
        """Register the arrays of an intact shard."""
        self._seen.add(name)
        names: dict[str, list[str]] = {}
        with safe_open(self.folder / name, framework="np") as file:
            for full in file.keys():  # noqa: SIM118  # it is no mapping
                key, _, array = full.rpartition("/")
                names.setdefault(key, []).append(array)
        for key, arrays in names.items():
            self._places[key], self._names[key] = name, tuple(arrays)
