"""The type bytea."""

from __future__ import annotations

import binascii

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.mapping.column_source import ColumnSource
from tasks.columns.types.arrow_values import all_match, as_binary, as_string, is_text
from tasks.columns.types.column_type import ColumnType, Parsed
from tasks.columns.wire import data_of, offsets_of, validity

_HEX = r"^\\x(?:[0-9a-fA-F]{2})*$"
# Text without a backslash stands for its own bytes. What other characters than ASCII stand for depends on the encoding
# of the database.
_PLAIN = r"^[\x01-\x5b\x5d-\x7f]*$"


class Bytea(ColumnType):
    """Bytes. It understands hexadecimal texts, such as `\\x00ff`, and ASCII texts without a backslash."""

    def parse(self, texts: pa.Array, source: ColumnSource) -> Parsed:
        """The bytes of each text."""
        if is_text(texts):
            if all_match(texts, _HEX):
                return Parsed(_unhex(as_binary(texts)))
            if all_match(texts, _PLAIN):
                return Parsed(as_binary(texts))
        return Parsed(as_string(texts))

    def encode(self, values: pa.Array) -> pa.Array:
        """The bytes themselves."""
        return values

    def to_text(self, values: pa.Array) -> pa.Array:
        """Hexadecimal texts."""
        filled = values.fill_null(b"")
        digits = _like(values, offsets_of(filled), 2, binascii.hexlify(data_of(filled).tobytes()))
        return pc.binary_join_element_wise(pa.scalar(b"\\x", pa.binary()), digits, b"")


def _unhex(texts: pa.Array) -> pa.Array:
    digits = pc.replace_substring(texts.fill_null(b""), b"\\x", b"", max_replacements=1)
    return _like(texts, offsets_of(digits), 0.5, binascii.unhexlify(data_of(digits).tobytes()))


def _like(values: pa.Array, offsets: np.ndarray, factor: float, data: bytes) -> pa.Array:
    """A binary array, n, with the nulls of `values`: its lengths are those of `offsets` times a factor."""
    scaled = ((offsets - offsets[0]) * factor).astype(np.int32)
    buffers = [validity(values), pa.py_buffer(scaled), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(values), buffers)


BYTEA = Bytea(pa.binary(), r"bytes, such as \x00ff", exact=True)
