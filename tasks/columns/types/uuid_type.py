"""The type uuid."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.mapping.column_source import ColumnSource
from tasks.columns.types.arrow_values import as_string, fixed_bytes, hex_texts
from tasks.columns.types.column_type import ColumnType, Parsed
from tasks.columns.types.ulids import parse_ulids
from tasks.columns.uuids import parse_uuids
from tasks.columns.wire import validity

_WIDTH = 16


class Uuid(ColumnType):
    """A UUID. It judges every text itself (see `parse_uuids`), so each has the same UUID from every source."""

    def parse(self, texts: pa.Array, source: ColumnSource) -> Parsed:
        """The UUIDs of texts; of ULIDs, or of any text in a namespace, if `source` says so."""
        texts = as_string(texts)
        present = texts.drop_null() if texts.null_count else texts
        if source.ulid:
            found, good = parse_ulids(present)
        else:
            found, good = parse_uuids(present, source.namespace)
        expected = "a ULID of 26 characters" if source.ulid else None
        if not texts.null_count:
            return Parsed(_uuids(found, None), None if good.all() else ~good, expected)
        valid = np.asarray(texts.is_valid())
        out, bad = np.zeros((len(texts), _WIDTH), np.uint8), np.zeros(len(texts), bool)
        out[valid], bad[valid] = found, ~good
        return Parsed(_uuids(out, validity(texts)), bad if bad.any() else None, expected)

    def encode(self, values: pa.Array) -> NDArray[np.uint8]:
        """The 16 bytes."""
        return fixed_bytes(values)

    def to_text(self, values: pa.Array) -> pa.Array:
        """32 hexadecimal digits."""
        return hex_texts(values)


def _uuids(table: NDArray[np.uint8], mask: pa.Buffer | None) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(_WIDTH), len(table), [mask, pa.py_buffer(np.ascontiguousarray(table))])


UUID = Uuid(pa.binary(_WIDTH), "a UUID", _WIDTH, exact=True)
