"""Read and write a table as a Parquet file with checksums of its pages and a mark of its schema."""

from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import pyarrow as pa
import pyarrow.parquet as pq

from grok_lightning.files import TEMPORARY, write_durably
from grok_lightning.reading import read_bytes

MARK = b"grok_lightning.index"
MOST_BYTES = 2**30
FIRST_FORMAT = b"1"  # had a checksum of the whole file before its footer, where readers of Parquet see nothing


def load(path: Path, names: Sequence[str] | None = None, first_format: bool = False) -> pa.Table | None:
    """Read a table that ``save`` wrote.

    Args:
        path: Parquet file.
        names: Columns to read, where the file has them; default: all.
        first_format: Whether to accept files of format 1 too, which had no checksums of pages.

    Returns:
        The table; None if the file is missing, damaged or of another format.
    """
    try:
        with pq.ParquetFile(pa.BufferReader(read_bytes(path, MOST_BYTES)), page_checksum_verification=True) as file:
            mark = (file.metadata.metadata or {}).get(MARK)
            if mark == _mark(file.schema_arrow) or (first_format and mark == FIRST_FORMAT):
                table = file.read(names, use_threads=False)
                table.validate(full=True)  # checksums do not cover the headers of pages
                return table
    except (OSError, pa.ArrowException, ValueError):
        pass
    return None


def save(path: Path, table: pa.Table) -> None:
    """Write a table atomically.

    Raises:
        OSError: The file cannot be written.
    """
    buffer = pa.BufferOutputStream()
    marked = table.replace_schema_metadata({MARK: _mark(table.schema)})
    pq.write_table(marked, buffer, write_statistics=False, write_page_checksum=True)
    write_durably(path, buffer.getvalue().to_pybytes())
    for leftover in path.parent.glob(f"{TEMPORARY}*-{path.name}"):
        leftover.unlink(missing_ok=True)  # of a killed process; a living one then fails to write


def _mark(schema: pa.Schema) -> bytes:
    """Format 2 and a checksum of names and types of columns, which checksums of pages do not cover."""
    return f"2 {crc32(str(schema.remove_metadata()).encode())}".encode()
