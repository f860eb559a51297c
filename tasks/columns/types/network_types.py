"""The types inet, cidr and macaddr.

https://github.com/postgres/postgres/blob/REL_17_STABLE/src/backend/utils/adt/network.c (network_recv)
"""

from __future__ import annotations

import binascii
import re
import socket
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.mapping.column_source import ColumnSource
from tasks.columns.types.arrow_values import all_match, as_binary, as_string, fixed_bytes, hex_texts, is_text
from tasks.columns.types.column_type import ColumnType, Parsed
from tasks.columns.wire import data_of

# Four decimal numbers, or colons and hexadecimal digits; then the bits of the network.
_ADDRESS = re.compile(r"([0-9.]{7,15}|[0-9a-fA-F:]{2,39})(?:/(0|[1-9][0-9]{0,2}))?", re.ASCII)
_IPV4, _IPV6 = (2, 32), (3, 128)  # the server's numbers of the families, and the bits of their addresses
_MAC = r"^(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$"
_MAC_LENGTH, _MAC_WIDTH = 17, 6


@dataclass(frozen=True)
class Network(ColumnType):
    """An address or a network. Its values are texts; it understands the usual spellings of IPv4 and IPv6."""

    cidr: bool = False

    def parse(self, texts: pa.Array, source: ColumnSource) -> Parsed:
        """The texts, if all of them are addresses."""
        strings = as_string(texts)
        if not is_text(texts) or any(text is not None and _address(text) is None for text in strings.to_pylist()):
            return Parsed(strings)
        return Parsed(as_binary(strings))

    def encode(self, values: pa.Array) -> pa.Array:
        """Family, bits, whether it is a cidr, length, and the address."""
        flag = bytes([self.cidr])
        found = [b"" if text is None else _encoded(text, flag) for text in as_string(values).to_pylist()]
        return pa.array(found, pa.binary())

    def to_text(self, values: pa.Array) -> pa.Array:
        """The texts themselves."""
        return values


@lru_cache(maxsize=16384)
def _address(text: str) -> tuple[int, int, bytes] | None:
    """Family, bits of the network, and the bytes of the address. None if it is not understood."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return None
    four = "." in match[1]
    family, most = _IPV4 if four else _IPV6
    try:
        address = socket.inet_pton(socket.AF_INET if four else socket.AF_INET6, match[1])
    except OSError:
        return None
    bits = most if match[2] is None else int(match[2])
    return None if bits > most else (family, bits, address)


def _encoded(text: str, flag: bytes) -> bytes:
    found = _address(text)
    assert found is not None
    family, bits, address = found
    return bytes((family, bits)) + flag + bytes([len(address)]) + address


class MacAddress(ColumnType):
    """A MAC address of six bytes. It understands pairs of hexadecimal digits with colons between them."""

    def parse(self, texts: pa.Array, source: ColumnSource) -> Parsed:
        """The addresses, if all texts have colons."""
        strings = as_string(texts)
        if not is_text(texts) or not all_match(strings, _MAC):
            return Parsed(strings)
        filled = strings.fill_null("00:00:00:00:00:00")
        grid = data_of(filled).reshape(-1, _MAC_LENGTH)
        digits = grid[:, np.arange(_MAC_LENGTH) % 3 != 2]
        data = pa.py_buffer(binascii.unhexlify(digits.tobytes()))
        values = pa.Array.from_buffers(pa.binary(_MAC_WIDTH), len(strings), [None, data])
        return Parsed(values if not strings.null_count else pc.if_else(strings.is_valid(), values, None))

    def encode(self, values: pa.Array) -> NDArray[np.uint8]:
        """The six bytes."""
        return fixed_bytes(values)

    def to_text(self, values: pa.Array) -> pa.Array:
        """Twelve hexadecimal digits."""
        return hex_texts(values)


INET = Network(pa.binary(), "an IP address or network")
CIDR = Network(pa.binary(), "an IP network", cidr=True)
MACADDR = MacAddress(pa.binary(_MAC_WIDTH), "a MAC address", _MAC_WIDTH, exact=True)
