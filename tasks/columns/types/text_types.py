"""Types whose binary form is their text: text, varchar, char, enums, json and jsonb."""

from __future__ import annotations

import pyarrow as pa

from infra.mapping.column_source import ColumnSource
from tasks.columns.types.arrow_values import as_binary, as_string
from tasks.columns.types.column_type import ColumnType, Parsed


class TextType(ColumnType):
    """A type whose receive function reads the same text as its input function, with the same checks."""

    def parse(self, texts: pa.Array, source: ColumnSource) -> Parsed:
        """Every text is understood: the server checks it in a binary COPY as well."""
        return Parsed(as_binary(texts))

    def encode(self, values: pa.Array) -> pa.Array:
        """The texts themselves."""
        return values

    def to_text(self, values: pa.Array) -> pa.Array:
        """The texts themselves."""
        return values


class TextLane(ColumnType):
    """Any type that Spillway does not encode. Its texts travel as they are, and the server casts them."""

    def parse(self, texts: pa.Array, source: ColumnSource) -> Parsed:
        """No text is understood. Only a column of nulls needs no text."""
        if texts.null_count == len(texts):
            return Parsed(pa.nulls(len(texts)))
        return Parsed(as_string(texts))

    def encode(self, values: pa.Array) -> pa.Array:
        """Nulls."""
        return values.cast(pa.binary())

    def to_text(self, values: pa.Array) -> pa.Array:
        """Nulls."""
        return values.cast(pa.binary())


def text_type(expected: str, exact: bool = False, prefix: bytes = b"") -> TextType:
    """A type whose binary form is its text."""
    return TextType(pa.binary(), expected, exact=exact, prefix=prefix)


TEXT, BPCHAR, JSON = text_type("text", exact=True), text_type("text"), text_type("JSON")
JSONB = text_type("JSON", prefix=b"\x01")  # its version
