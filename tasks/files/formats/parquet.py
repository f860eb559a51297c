"""Read Parquet as columns of text."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors.redact import one_line
from tasks.columns.column_forms import PG_TYPE
from tasks.files.bad_source import bad_source
from tasks.files.find import SourceFile
from tasks.files.formats import parquet_int96
from tasks.files.formats.as_text import as_text, is_json
from tasks.files.formats.blocks import MOST_ROWS, RowBlock
from tasks.files.formats.spelling import PLAIN, Spellings
from tasks.files.stored_bytes import translate_content_errors, translate_location_errors

_BLOCK_BYTES = 4 * 1024 * 1024
_READ_BYTES = 1024 * 1024  # read per column at once, instead of the whole column of a row group
# Decoded at once and then joined into blocks. The size of a row is known only after decoding, because a repeated value
# is stored once.
_BATCH_ROWS = 4096


def read_parquet(file: SourceFile, spellings: Spellings = PLAIN) -> tuple[tuple[bytes, ...], Iterator[RowBlock]]:
    """Read the column names and the rows, with their values as texts in the given spellings.

    Raises `Terminal` if the file is not Parquet, has no columns, or has two columns of one name. While rows are read,
    raises it if the file is corrupt, if a column cannot be converted to text, or if `check_int96` rejects a time.
    """
    parquet = _open(file)
    names = parquet.schema_arrow.names
    if len(set(names)) < max(1, len(names)):
        raise bad_source(
            file.display_name,
            f"expected columns with different names, found {', '.join(map(repr, names)) or 'no columns'}",
            "write the file with unique names",
        )
    keys = tuple(name.encode() for name in names)
    return keys, _rows(file, parquet, keys, spellings)


def _open(file: SourceFile, int96_unit: str = parquet_int96.UNIT) -> Any:
    with translate_location_errors(file):
        source = file.files.open_input_file(file.path)
    with translate_content_errors(file, "Parquet"):
        parquet = pq.ParquetFile(
            source, pre_buffer=False, buffer_size=_READ_BYTES, coerce_int96_timestamp_unit=int96_unit
        )
        assert parquet.schema_arrow is not None  # read inside translate_content_errors, which explains a corrupt schema
        return parquet


def _rows(file: SourceFile, parquet: Any, keys: tuple[bytes, ...], spellings: Spellings) -> Iterator[RowBlock]:
    types = zip(keys, parquet.schema_arrow.types, strict=True)
    json_keys = frozenset(key for key, kind in types if is_json(kind, spellings.of(key)))
    parquet_int96.check_int96(file, parquet, partial(_open, file))
    count = held = size = 0
    columns: list[list[pa.Array]] = [[] for _ in keys]
    with parquet:
        for batch in chain(_batches(file, parquet), (None,)):
            if held and (batch is None or size >= _BLOCK_BYTES or held + len(batch) > MOST_ROWS):
                row = np.arange(count + 1, count + 1 + held)
                yield RowBlock(row, keys, tuple(pa.concat_arrays(parts) for parts in columns), json_keys)
                count, held, size = count + held, 0, 0
                columns = [[] for _ in keys]
            if batch is not None:
                texts = [_text(file, batch, number, spellings) for number in range(len(keys))]
                for parts, text in zip(columns, texts, strict=True):
                    parts.append(text)
                held += len(batch)
                size += sum(text.nbytes for text in texts)


def _batches(file: SourceFile, parquet: Any) -> Iterator[Any]:
    groups = [parquet.metadata.row_group(number) for number in range(parquet.metadata.num_row_groups)]
    widest = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=0)
    rows = max(1, min(_BATCH_ROWS, MOST_ROWS, _BLOCK_BYTES // max(1, widest)))
    with translate_content_errors(file, "Parquet"):
        yield from parquet.iter_batches(rows)


def text_of(field: pa.Field, column: pa.Array, spellings: Spellings = PLAIN) -> pa.Array:
    """Convert a column to binary with the same nulls. Columns of an archive get PostgreSQL's input syntax."""
    is_archived_bytea = PG_TYPE in (field.metadata or {}) and pa.types.is_binary(field.type)
    spelling = "bytea" if is_archived_bytea else spellings.of(field.name.encode())
    return as_text(column, spelling, spellings.nan_as_null)


def _text(file: SourceFile, batch: Any, number: int, spellings: Spellings) -> pa.Array:
    try:
        return text_of(batch.schema.field(number), batch.column(number), spellings)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        field = batch.schema.field(number)
        raise bad_source(
            file.display_name,
            f"expected columns that convert to text, found {field.name!r} of type {field.type}: {one_line(error)}",
            "write the file without it, or as text",
        ) from error
