"""What Spillway knows about a type of PostgreSQL: how its texts become values, and how a COPY encodes these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.mapping.column_source import ColumnSource


@dataclass(frozen=True)
class Parsed:
    """n values of a column.

    `values`: of the type's `arrow` if every value is understood here; else string, n, for the server to parse.
    Nulls stay nulls. `bad`: bool, n, the values that this type refuses itself; None if there are none. What they have
    in `values` is unspecified. `expected`: for the message about these, if the source expects something else than the
    type's `expected`.
    """

    values: pa.Array
    bad: NDArray[np.bool_] | None = None
    expected: str | None = None


@dataclass(frozen=True)
class ColumnType(ABC):
    """A type. Its module says which texts it understands; the server's input function decides about all others.

    `arrow`: of the values that it understands, never string. Null if it leaves every text to the server.
    `expected`: for messages, such as `an integer from -32768 to 32767`.
    `width`: bytes of a value in a binary COPY, None if it varies.
    `prefix`: bytes before each value in a binary COPY. They count in its length, and `encode` leaves them out.
    `exact`: whether the server considers two values equal if and only if they have the same bytes.
    """

    arrow: pa.DataType
    expected: str
    width: int | None = None
    prefix: bytes = b""
    exact: bool = False

    @abstractmethod
    def parse(self, texts: pa.Array, source: ColumnSource) -> Parsed:
        """Parse texts (string or binary, n, with nulls). Values that are typed already (int64, float64, bool, …) may
        come instead of texts."""

    @abstractmethod
    def encode(self, values: pa.Array) -> NDArray[np.uint8] | pa.Array:
        """The bytes of values of `arrow` in a binary COPY, without their lengths: uint8, (n, width), or binary, n.
        What a null has is unspecified."""

    @abstractmethod
    def to_text(self, values: pa.Array) -> pa.Array:
        """Values of `arrow` as the text that the server's input function takes: string or binary, n, same nulls."""
