"""Parse UUIDs, one column at a time."""

from __future__ import annotations

import binascii
import re
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.mapping.column_source import DEFAULT_NAMESPACE

NAMESPACE = DEFAULT_NAMESPACE

_LENGTH = 36
_DASHES = (8, 13, 18, 23)
_HEX_PARTS = ((0, 8), (9, 13), (14, 18), (19, 23), (24, 36))
# The other accepted spellings. `uuid.UUID` alone accepts dashes anywhere, underscores and the digits of other
# alphabets, and so gives one id to different texts.
_DIGITS = r"[0-9a-f]{8}(-?)[0-9a-f]{4}\{n}[0-9a-f]{4}\{n}[0-9a-f]{4}\{n}[0-9a-f]{12}"
_SPELLING = re.compile(
    r"(?:urn:uuid:)?" + _DIGITS.replace("{n}", "1") + r"|\{" + _DIGITS.replace("{n}", "2") + r"\}", re.IGNORECASE
)
_IS_HEX = np.zeros(256, bool)
_IS_HEX[list(b"0123456789abcdefABCDEF")] = True


def parse_uuids(texts: pa.Array, namespace: uuid.UUID | None = None) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Parse each text. Returns the bytes, uint8, (n, 16), and whether it is a UUID, bool, n. Other texts have zeros.

    `texts`: string, n, no nulls. A UUID has four dashes or none, and may be in braces or follow `urn:uuid:`.
    With a namespace, any other text becomes a UUIDv5 in it, except blank text: it does not identify a row.
    """
    n = len(texts)
    out = np.zeros((n, 16), np.uint8)
    good = np.asarray(pc.equal(pc.binary_length(texts), _LENGTH))
    whole = bool(good.all())
    usual = texts if whole else texts.filter(pa.array(good))
    hexes, usual_good = _hex_digits(usual)
    if whole and usual_good.all():
        return _unhex(hexes), good
    good[np.flatnonzero(good)[~usual_good]] = False
    out[good] = _unhex(hexes[usual_good])
    for i in np.flatnonzero(~good):
        text = texts[int(i)].as_py()
        if _SPELLING.fullmatch(text):
            value = uuid.UUID(text.lower())
        elif namespace is not None and text.strip():
            value = uuid.uuid5(namespace, text)
        else:
            continue
        out[i] = np.frombuffer(value.bytes, np.uint8)
        good[i] = True
    return out, good


def _hex_digits(texts: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The 32 hex digits of texts of 36 bytes, uint8, (n, 32), and bool, n, whether digits and dashes are in place."""
    n = len(texts)
    data = texts.buffers()[2]
    if n == 0 or data is None:
        return np.zeros((0, 32), np.uint8), np.zeros(0, bool)
    first = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset]
    grid = np.frombuffer(data, np.uint8)[first : first + n * _LENGTH].reshape(n, _LENGTH)
    digits = np.concatenate([grid[:, a:b] for a, b in _HEX_PARTS], axis=1)
    good = _IS_HEX[digits].all(axis=1)
    for position in _DASHES:
        good &= grid[:, position] == ord("-")
    return digits, good


def _unhex(digits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.frombuffer(binascii.unhexlify(digits.tobytes()), np.uint8).reshape(-1, 16)
