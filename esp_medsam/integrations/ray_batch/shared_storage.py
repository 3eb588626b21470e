"""What every node of a cluster must see as the run does, and the token that shows it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from esp_medsam.errors import ClusterError
from esp_medsam.identity import sha256_of
from esp_medsam.io.folder import TEMPORARY_PREFIX, entered
from esp_medsam.version import __version__
from esp_medsam.workflows.bundle import TABLE
from esp_medsam.workflows.request import Request


_TOKEN_PREFIX = f"{TEMPORARY_PREFIX}ray-"


@dataclass(frozen=True)
class SharedStorage:
    """What a run needs on every node, at the same paths.

    Attributes:
        folder: Current folder of the run, from which relative paths are understood.
        dataset: The input.
        token: File that only this run has put into its output folder; it is there while the run is.
        files: SHA-256 of the weights and of the configs.
        version: Version of this package.
    """

    folder: str
    dataset: str
    token: str
    files: Mapping[str, str]
    version: str

    @classmethod
    def of(
        cls, request: Request, weights: str | os.PathLike[str] | None, token: Path
    ) -> SharedStorage:
        """Return what a run needs.

        Args:
            request: The run's request.
            weights: File of the weights; None if there are none.
            token: File that :func:`token_in` put into the output folder.
        """
        files = [*request.configs, request.root / TABLE, *([] if weights is None else [weights])]
        return cls(
            folder=str(Path.cwd()),
            dataset=str(request.settings["dataset_dir"]),
            token=str(token),
            files={os.fspath(path): sha256_of(Path(path)) for path in files},
            version=__version__,
        )

    def enter(self, node: str) -> None:
        """Require that this machine sees it all, and go to the folder of the run.

        Args:
            node: Name of this machine, for messages.

        Raises:
            ClusterError: If it sees anything else.
        """
        if self.version != __version__:
            msg = f"{node} must have esp-medsam {self.version}, as the machine has that starts the "
            msg += f"run; it has {__version__}. Install that version there."
            raise ClusterError(msg)
        with suppress(OSError):  # what is missing is told by its path
            os.chdir(self.folder)
        for path in (self.dataset, str(Path(self.token).parent)):
            if not Path(path).exists():
                raise self._unseen(node, path, "it is not there")
        if not Path(self.token).exists():
            told = "another folder is there"
            raise self._unseen(node, str(Path(self.token).parent), told)
        for path, sha256 in self.files.items():
            try:
                found = sha256_of(Path(path))
            except OSError:
                raise self._unseen(node, path, "it cannot be read") from None
            if found != sha256:
                raise self._unseen(node, path, "its content is another one")

    @property
    def is_of_a_run(self) -> bool:
        """Whether the run that put the token there is still at work, as far as is known."""
        try:
            os.lstat(self.token)
        except FileNotFoundError:
            return False
        except OSError:  # a file system that does not answer says nothing
            return True
        return True

    def _unseen(self, node: str, path: str, what: str) -> ClusterError:
        msg = f"{Path(self.folder, path)} must be the same on every node of the cluster; on {node} "
        return ClusterError(f"{msg}{what}. Put it on storage that all nodes mount at one path.")


@contextmanager
def token_in(folder: Path) -> Iterator[Path]:
    """Put a file that nobody else can know into a run's output folder, until the block ends.

    Those of killed runs are removed, which ends the workers that may be left of them. The run must
    hold the folder's lock.
    """
    name = f"{_TOKEN_PREFIX}{secrets.token_hex(8)}"
    with entered(folder) as held:
        for other in held.names():
            if other.startswith(_TOKEN_PREFIX):
                held.remove(other)
        os.close(held.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        try:
            yield folder / name
        finally:
            with suppress(OSError):
                held.remove(name)
