"""Rows as PostgreSQL's COPY writes them (CSV), in Parquet files and back, block by block.

Owns the only use of pyarrow, and which type has an exact form in Parquet: what has none travels as the server's text.
Must not know a database. Memory is that of one block, or of one row where that is larger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]
from pyarrow import csv, parquet  # pyright: ignore[reportMissingTypeStubs]

from rehearsal.errors import StepFailed

# It has no types of its own.
_arrow = cast("Any", pa)
_csv = cast("Any", csv)
_parquet = cast("Any", parquet)
# What a row comes as.
Row = bytes | bytearray | memoryview

TEXT = "string"
# Types of PostgreSQL, below all domains, that Parquet has exactly. Days and moments only where all values of the leaf
# are within the years 1 to 9999 (`DATED`): there is no infinity and no year BC. All others travel as text: numeric has
# more digits than any decimal of Parquet, and text comes back as it went.
EXACT = {
    "bool": "bool",
    "int2": "int16",
    "int4": "int32",
    "int8": "int64",
    "float4": "float",
    "float8": "double",
    "text": TEXT,
    "varchar": TEXT,
}
DATED = {"date": "date32", "timestamp": "moment", "timestamptz": "moment_utc"}
# Text of rows in one block, which becomes one row group.
BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class ParquetColumn:
    """A column of the file: its name, and its form there (a value of `EXACT` or `DATED`)."""

    name: str
    form: str


def form_of(base: str, *, fits: bool) -> str:
    """Return the form of a type; `fits` says of days and moments that Parquet has all that there are.

    >>> form_of("int8", fits=False), form_of("date", fits=True), form_of("date", fits=False)
    ('int64', 'date32', 'string')
    """
    return DATED.get(base, TEXT) if fits and base in DATED else EXACT.get(base, TEXT)


def write_parquet(target: BinaryIO, columns: Sequence[ParquetColumn], rows: Iterable[Row]) -> int:
    """Write rows, each a line of CSV as COPY sends it, and return how many there were.

    Raises:
        StepFailed: a row is not what its columns say; nothing of the file can be used.
        OSError: the disk is full, or the file cannot be written.
    """
    schema, count = _schema(columns), 0
    options = {"compression": "zstd", "write_page_checksum": True}
    try:
        with _parquet.ParquetWriter(target, schema, **options) as writer:
            for block, held in _blocks(rows):
                table = _parsed(block, schema)
                if table.num_rows != held:
                    message = f"{held} rows were read as {table.num_rows}"
                    raise StepFailed(message)
                writer.write_table(table)
                count += held
    except _arrow.ArrowInvalid as exc:
        message = f"rows cannot be written as Parquet: {' '.join(str(exc).split())}"
        raise StepFailed(message) from exc
    return count


def read_parquet(path: Path, names: Sequence[str]) -> Iterator[memoryview]:
    """Yield the rows of a file as CSV for COPY, block by block, with these columns in this order.

    Raises:
        StepFailed: it is no Parquet file, is damaged, or lacks a column.
        OSError: it cannot be read.
    """
    try:
        with _parquet.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                yield _written(file.read_row_group(group, use_threads=False).select(list(names)))
    except (_arrow.ArrowInvalid, _arrow.ArrowNotImplementedError, KeyError) as exc:
        message = f"{path} cannot be read as Parquet: {' '.join(str(exc).split())}"
        raise StepFailed(message) from exc


def _blocks(rows: Iterable[Row]) -> Iterator[tuple[bytes, int]]:
    """Put rows together to blocks: each with how many rows it holds. The server sends each row by itself."""
    block, held = bytearray(), 0
    for row in rows:
        block += row
        held += 1
        if len(block) >= BLOCK_BYTES:
            yield bytes(block), held
            block, held = bytearray(), 0
    if held:
        yield bytes(block), held


def _schema(columns: Sequence[ParquetColumn]) -> Any:
    types = {
        "bool": _arrow.bool_(),
        "int16": _arrow.int16(),
        "int32": _arrow.int32(),
        "int64": _arrow.int64(),
        "float": _arrow.float32(),
        "double": _arrow.float64(),
        "date32": _arrow.date32(),
        "moment": _arrow.timestamp("us"),
        "moment_utc": _arrow.timestamp("us", "UTC"),
        TEXT: _arrow.string(),
    }
    return _arrow.schema([(column.name, types[column.form]) for column in columns])


def _parsed(block: bytes, schema: Any) -> Any:
    """Return a block of CSV as a table: NULL is what stands without quotes and is empty, '' has quotes."""
    return _csv.read_csv(
        _arrow.BufferReader(block),
        read_options=_csv.ReadOptions(column_names=schema.names, block_size=len(block) + 1, use_threads=False),
        parse_options=_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=_csv.ConvertOptions(
            column_types=schema,
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _written(table: Any) -> memoryview:
    """Return a table as CSV in which every value stands in quotes, and NULL is nothing."""
    sink = _arrow.BufferOutputStream()
    _csv.write_csv(table, sink, _csv.WriteOptions(include_header=False, quoting_style="all_valid"))
    return memoryview(sink.getvalue())
