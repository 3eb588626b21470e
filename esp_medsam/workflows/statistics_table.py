"""Write rows of statistics as CSV, JSON or Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from esp_medsam.errors import OptionError, OutputExistsError
from esp_medsam.io.atomic import atomic_file


ENDINGS = (".csv", ".json", ".parquet")


def check_table(path: Path, *, overwrite: bool) -> None:
    """Refuse a path that cannot be written, before anything is measured.

    Raises:
        OptionError: If its ending is unknown, or what writes Parquet is not installed.
        OutputExistsError: If it exists and may not be replaced.
    """
    if path.suffix not in ENDINGS:
        msg = f"OUT must end in one of {', '.join(ENDINGS)}; got {path}."
        raise OptionError(msg)
    if path.suffix == ".parquet":
        try:
            import pyarrow as _  # noqa: F401
        except ImportError as error:
            msg = "OUT as .parquet needs pyarrow; it is not installed. Run: pip install pyarrow."
            raise OptionError(msg) from error
    if path.exists() and not overwrite:
        msg = f"OUT must not exist yet; {path} does. Pass `overwrite` to replace it."
        raise OutputExistsError(msg)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, completely or not at all.

    Args:
        path: File to write; its ending decides the format.
        rows: Rows with the same columns.

    Raises:
        OutputError: If it cannot be written.
    """
    with atomic_file(path) as file:
        if path.suffix == ".csv":
            file.write(_csv(rows).encode())
        elif path.suffix == ".json":
            file.write((json.dumps(list(rows), indent=1) + "\n").encode())
        else:
            _write_parquet(rows, file)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["mask"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write_parquet(rows: Sequence[Mapping[str, Any]], file: BinaryIO) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist([dict(row) for row in rows]), file)
