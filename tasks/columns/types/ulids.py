"""Parse ULIDs as the UUIDs with the same bits.

https://github.com/ulid/spec: 26 characters of Crockford's Base32, which stand for 128 bits.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.columns.wire import data_of

_LENGTH = 26
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_NONE = 255
_VALUES = np.full(256, _NONE, np.uint8)
for _value, _letter in enumerate(_ALPHABET):
    _VALUES[[ord(_letter), ord(_letter.lower())]] = _value
_LARGEST_FIRST = 7  # the first character has 3 bits


def parse_ulids(texts: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Parse each text. Returns the bytes, uint8, (n, 16), and whether it is a ULID, bool, n. Other texts have zeros.

    `texts`: string, n, no nulls. Letters may have either case.
    """
    n = len(texts)
    out = np.zeros((n, 16), np.uint8)
    good = np.asarray(pc.equal(pc.binary_length(texts), _LENGTH))
    usual = texts if good.all() else texts.filter(pa.array(good))
    digits = _VALUES[data_of(usual).reshape(len(usual), _LENGTH)]
    valid = (digits != _NONE).all(axis=1) & (digits[:, 0] <= _LARGEST_FIRST)
    rows = np.flatnonzero(good)
    good = good.copy()
    good[rows[~valid]] = False
    bits = np.unpackbits(digits[valid][:, :, None], axis=2)[:, :, 3:]  # 5 bits a character, 130 in total
    out[rows[valid]] = np.packbits(bits.reshape(-1, _LENGTH * 5)[:, 2:], axis=1)
    return out, good
