"""A table in one Parquet file that knows whether it is whole: columns keep their types and can be read one by one."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from grok_lightning.files import TEMPORARY, write_durably

FORMAT = {b"grok_lightning.index": b"1"}
SUM = 32  # bytes
END = 8  # bytes: the footer's length and the mark of a Parquet file


def load(path: Path, names: Sequence[str] | None = None) -> pa.Table | None:
    """Those of these columns that it has, or all; None if the file is missing, damaged or of another format."""
    try:
        content = path.read_bytes()
        at = _footer(content)
        if content[at - SUM : at] == _sum(content[: at - SUM], content[at:]):
            with pq.ParquetFile(pa.BufferReader(content)) as file:
                if FORMAT.items() <= (file.metadata.metadata or {}).items():
                    return file.read(names, use_threads=False)
    except (OSError, pa.ArrowException, ValueError):
        pass
    return None


def save(path: Path, table: pa.Table) -> None:
    """Writes a table atomically.

    The sum of all bytes stands before the footer, where readers of Parquet see nothing: they find data by their place
    from the beginning and the footer from the end. (Parquet's own sums leave out the headers of pages.)

    Raises:
        OSError: It could not be written.
    """
    buffer = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(FORMAT), buffer, write_statistics=False)
    content = buffer.getvalue().to_pybytes()
    data, footer = content[: _footer(content)], content[_footer(content) :]
    write_durably(path, data + _sum(data, footer) + footer)
    for leftover in path.parent.glob(f"{TEMPORARY}*-{path.name}"):
        leftover.unlink(missing_ok=True)  # a killed process's; a living one then fails to write


def _footer(content: bytes) -> int:
    return len(content) - END - int.from_bytes(content[-END:][:4], "little")


def _sum(data: bytes, footer: bytes) -> bytes:
    found = sha256(data)
    found.update(footer)
    return found.digest()
