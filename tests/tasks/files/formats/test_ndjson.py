"""NDJSON: every line keeps its bytes and its number, wherever a block ends."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from infra.errors.exceptions import Terminal
from tasks.files.formats import read_buffer
from tasks.files.formats.blocks import RowBlock
from tasks.files.formats.ndjson import read_lines
from tasks.files.formats.read_buffer import LONGEST_BYTES
from tests.support.source_files import block_sizes, fields_of, fill_from

MARK = b"\xef\xbb\xbf"
SPACES = b" \t\r\v\f"

a_line = st.one_of(
    st.binary(max_size=12),
    st.text(alphabet=st.sampled_from(list("a \t\v\f\r{}é")), max_size=5).map(str.encode),
).filter(lambda line: b"\n" not in line and not line.endswith(b"\r"))


def read(data: bytes, size: int = 1 << 20, scanned: int = 1 << 20, rows: int = 1 << 16) -> dict[int, bytes]:
    with block_sizes(size, scanned, rows):
        found = fields_of(read_lines(fill_from(data, 5), b"f", "x.ndjson"))
    assert all(list(fields) == [b"f"] for fields in found.values())
    return {number: fields[b"f"] for number, fields in found.items()}


@given(
    st.lists(st.tuples(a_line, st.sampled_from([b"\n", b"\r\n"]))),
    st.booleans(),
    st.booleans(),
    st.integers(3, 40),
    st.integers(1, 9),
    st.integers(1, 4),
)
def test_every_line_keeps_its_bytes_and_its_number(
    expected: list[tuple[bytes, bytes]], marked: bool, ended: bool, size: int, scanned: int, most: int
) -> None:
    data = b"".join(chain.from_iterable(expected))
    if not ended and expected and expected[-1][0]:
        data = data.removesuffix(expected[-1][1])
    if not marked and data.startswith(MARK):
        return
    assume(not data.strip().startswith((b"{", b"[", b"\x1e", b"\xff\xfe", b"\xfe\xff")))  # see test_json_documents.py
    whole = {number: line for number, (line, _) in enumerate(expected, 1) if line.strip(SPACES)}
    assert read(MARK * marked + data, size, scanned, most) == whole


@pytest.mark.parametrize("size", range(3, 30))
def test_blank_lines_are_skipped_but_counted(size: int) -> None:
    assert read(b'\n{"a":1}\n \t\r\n\r\n\n {"b":2} \r\n{"c":3}', size) == {
        2: b'{"a":1}',
        6: b' {"b":2} ',
        7: b'{"c":3}',
    }


@pytest.mark.parametrize("data", [b"", MARK, b"\n", b"\r\n\n", b"  ", MARK + b"\n \n"])
def test_a_file_of_blank_lines_has_no_rows(data: bytes) -> None:
    assert read(data, 3) == {}


def test_invalid_utf8_and_invalid_json_are_passed_on() -> None:
    assert read(b"\xff\xff\n{\n\0\n\xef\xbb\xbf{}") == {1: b"\xff\xff", 2: b"{", 3: b"\0", 4: MARK + b"{}"}


def test_the_rows_of_a_block_are_bounded() -> None:
    blocks: list[RowBlock] = list(read_lines(fill_from(b"x\n" * 200_000), b"f", "x"))
    assert [len(rows) for rows in blocks] == [65_536, 65_536, 65_536, 3_392]
    assert [int(rows.row[0]) for rows in blocks] == [1, 65_537, 131_073, 196_609]


def test_a_line_of_256_mib_is_read() -> None:
    found = list(read_lines(fill_from(b"a\n" + b"x" * LONGEST_BYTES + b"\nb"), b"f", "x"))
    assert [number for rows in found for number in rows.row.tolist()] == [1, 2, 3]
    assert [len(value.as_buffer()) for rows in found for value in rows.values[0]] == [1, LONGEST_BYTES, 1]


def test_a_longer_line_is_refused_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_buffer, "LONGEST_BYTES", 9)
    assert read(b"1\n2\n123456789\n", 4) == {1: b"1", 2: b"2", 3: b"123456789"}
    with pytest.raises(
        Terminal,
        match=r"x.ndjson, line 3: expected its end within 9 bytes, found no end; .*; put each JSON",
    ):
        read(b"1\n2\n" + b"1234567890" * 3, 4)
