"""CSV: values keep their bytes and malformed records keep their text, wherever a block ends."""

from __future__ import annotations

import csv
import io
import time

import pandas
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from infra.errors.exceptions import Terminal
from tasks.columns.entries import MALFORMED
from tasks.files.formats import read_buffer
from tasks.files.formats.csv import read_records
from tests.support.source_files import Fields, block_sizes, fields_of, fill_from

KEYS = (b"x", b"y", b"z")
MARK = b"\xef\xbb\xbf"

a_value = st.one_of(
    st.none(),
    st.text(alphabet=st.sampled_from(list('ab",\r\n é\0')), max_size=6).map(str.encode),
    st.binary(max_size=4),
)


def read(
    data: bytes, size: int = 1 << 20, scanned: int = 1 << 20, rows: int = 1 << 16, delimiter: bytes = b","
) -> dict[int, Fields]:
    with block_sizes(size, scanned, rows):
        keys, found = read_records(fill_from(data, 5), "x.csv", delimiter)
        assert keys[-1] == MALFORMED
        return fields_of(found)


def spelled(value: bytes | None, quoted: bool) -> bytes:
    """Write a value as RFC 4180 specifies. None is written as nothing."""
    if value is None:
        return b""
    if quoted or not value or any(sign in value for sign in b'",\r\n'):
        return b'"' + value.replace(b'"', b'""') + b'"'
    return value


@given(
    st.lists(st.tuples(st.tuples(a_value, a_value, a_value), st.booleans(), st.sampled_from([b"\n", b"\r\n"]))),
    st.booleans(),
    st.booleans(),
    st.integers(3, 60),
    st.integers(1, 9),
    st.integers(1, 4),
)
def test_every_value_keeps_its_bytes(
    rows: list[tuple[tuple[bytes | None, ...], bool, bytes]],
    marked: bool,
    ended: bool,
    size: int,
    scanned: int,
    most: int,
) -> None:
    written = [b",".join(spelled(value, quoted) for value in values) + end for values, quoted, end in rows]
    data = MARK * marked + b"x,y,z\n" + b"".join(written)
    if not ended and rows:
        data = data.removesuffix(rows[-1][2])
    assert read(data, size, scanned, most) == {
        number: {key: value for key, value in zip(KEYS, values, strict=True) if value is not None}
        for number, (values, _, _) in enumerate(rows, 1)
    }


@given(
    st.lists(st.sampled_from(["a", '"', ",", "\n", "\r\n", "é"]), max_size=30).map("".join),
    st.integers(3, 40),
    st.integers(1, 9),
)
@example('a"b,c\n"a"b"c,d\n"a""b"c,""x""\n', 1, 1)
def test_any_text_is_parsed_like_the_csv_module_does(text: str, size: int, scanned: int) -> None:
    """Records with as many values as the header has names are equal. Other records keep their text."""
    data = ("x,y\n" + text).encode()
    expected = [record for record in csv.reader(io.StringIO("x,y\n" + text, newline="")) if record][1:]
    assume(not (expected and len(expected[0]) == 3 and not expected[0][2]))  # refused: a trailing comma
    with_another = list(csv.reader(io.StringIO(text + "\nthe,end", newline="")))
    if with_another[-1] != ["the", "end"]:
        with pytest.raises(Terminal, match=r"x.csv, record \d+: expected a closing quote, found the end of the file"):
            read(data, size, scanned)
        return
    found = read(data, size, scanned)
    assert list(found) == list(range(1, len(expected) + 1))
    for fields, record in zip(found.values(), expected, strict=True):
        if len(record) == 2:
            assert [fields.get(key, b"").decode() for key in (b"x", b"y")] == record
            assert MALFORMED not in fields
        else:
            assert list(fields) == [MALFORMED]
            assert list(csv.reader(io.StringIO(fields[MALFORMED].decode(), newline=""))) == [record]


@pytest.mark.parametrize("size", range(3, 40))
def test_records_with_too_few_or_too_many_values_keep_their_text(size: int) -> None:
    assert read(b'x,y\r\n1,2\r\n3\r\n\r\n"a\r\n",\xff,"c"\r\n"5",""\r\n,\r\n6,7', size) == {
        1: {b"x": b"1", b"y": b"2"},
        2: {MALFORMED: b"3"},
        3: {MALFORMED: b'"a\r\n",\xff,"c"'},
        4: {b"x": b"5", b"y": b""},
        5: {},
        6: {b"x": b"6", b"y": b"7"},
    }


def test_values_are_neither_trimmed_nor_converted() -> None:
    assert read(b"x,y\n 01 ,NULL\nnan,1e5\n") == {
        1: {b"x": b" 01 ", b"y": b"NULL"},
        2: {b"x": b"nan", b"y": b"1e5"},
    }


def test_a_single_column_may_have_quoted_empty_values_and_blank_lines_are_skipped() -> None:
    assert read(b'x\n1\n\n""\n2') == {1: {b"x": b"1"}, 2: {b"x": b""}, 3: {b"x": b"2"}}


def test_values_may_be_separated_by_tabs() -> None:
    assert read(b'x\ty\n1,5\t"a\tb"\n', delimiter=b"\t") == {1: {b"x": b"1,5", b"y": b"a\tb"}}


def test_names_may_be_quoted_and_may_be_invalid_utf8() -> None:
    keys, found = read_records(fill_from(MARK + b'"a,""b""\n",\xff\n1,2\n'), "x.csv")
    assert keys == (b'a,"b"\n', b"\xff", MALFORMED)
    assert fields_of(found) == {1: {b'a,"b"\n': b"1", b"\xff": b"2"}}


def test_a_file_with_only_a_header_has_no_rows() -> None:
    for data in (b"x,y", b"x,y\r\n", b"\n\nx,y\n\n\n"):
        keys, found = read_records(fill_from(data), "x.csv")
        assert keys == (b"x", b"y", MALFORMED)
        assert list(found) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a header with the names of the columns, found an empty file"),
        (b"\n\r\n", "a header with the names of the columns, found an empty file"),
        (b"x,,y\n1,2,3\n", "a name for each column, found no name for column 2; nothing was loaded; put the names"),
        (b'x,""\n1,2\n', "a name for each column, found no name for column 2"),
        (b"x,y,\n1,2,\n", "a name for each column, found no name for column 3, since the line ends with a comma"),
        (b",index\n1,2\n", "different names, found 'index' repeated in column 2"),
        (
            b"x;y\n1;2\n",
            "a comma between the names of the columns, found a semicolon; nothing was loaded; convert the sep",
        ),
        (b"x|y\n1|2\n", "found a vertical bar"),
        (b"x\ty\n1\t2\n", "found a tab"),
        (b'{"secret":1}\n{"secret":2}\n', "a header with the names of the columns, found JSON; .* a name in .ndjson"),
        (b'[{"secret":1},\n{"secret":2}]\n', "found JSON"),
        (b"secret,2026-01-01T00:00:00Z\n", "a header .*, found a time or a UUID in column 2 of the first line"),
        (b"2026-01-01,secret\n", "a time or a UUID in column 1"),
        (b"secret,6f1c0a4e-5d1b-4c53-9c35-0d6a3f2b1c00\n", "a time or a UUID in column 2"),
        (
            b"x,y\nsecret,2,\n3,4,\n",
            "2 values in each record, as many as names in the header, found an extra empty value at the end",
        ),
        ("x,y\nsecret,2\n".encode("utf-16"), "UTF-8, found UTF-16; nothing was loaded; convert the file"),
        ("x,y\nsecret,2\n".encode("utf-16-le"), "UTF-8, found UTF-16LE"),
        (b"x,y\r1,2\r3,4\r", r"records that end with \\n or \\r\\n, found \\r alone; nothing was loaded; convert"),
        (b'"x","y"\r"1","2"\r', r"records that end with \\n or \\r\\n, found \\r alone"),
        (b"x,y,x\n1,2,3\n", "different names, found 'x' repeated in column 3; .*rename one"),
        (
            b'x,y\n1,2\n3,"4\n5,6\n',
            r"record 2: expected a closing quote, found the end of the file; nothing was loaded",
        ),
        (b'x,"y\n1,2\n', r"record 0: expected a closing quote, found the end of the file; nothing was loaded"),
    ],
)
@pytest.mark.parametrize("size", [3, 5, 100])
def test_a_file_with_a_bad_header_or_an_open_quote_is_refused(data: bytes, message: str, size: int) -> None:
    with pytest.raises(Terminal, match=f"^backfill: x.csv.*{message}") as refused:
        read(data, size if not message.endswith("UTF-16LE") else 100)
    assert "secret" not in str(refused.value)


def test_an_unnamed_index_of_pandas_is_called_index() -> None:
    frame = pandas.DataFrame({"x": [5, 6]}, index=pandas.Index(["a", "b"]))
    assert list(frame.reset_index().columns) == ["index", "x"]
    assert read(frame.to_csv().encode()) == {1: {b"index": b"a", b"x": b"5"}, 2: {b"index": b"b", b"x": b"6"}}


def test_a_record_may_span_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    value = b'a"\n,' * (1 << 18)
    data = b"x,y\n1," + spelled(value, True) + b"\n2,b\n"
    assert read(data, 1 << 16) == {1: {b"x": b"1", b"y": value}, 2: {b"x": b"2", b"y": b"b"}}
    monkeypatch.setattr(read_buffer, "LONGEST_BYTES", 1 << 19)
    with pytest.raises(
        Terminal,
        match=r"x.csv, record 1: expected its end within 524,288 bytes, found no end; .*; check whether a quote",
    ):
        read(data, 1 << 16)


def test_the_rows_of_a_block_are_bounded() -> None:
    _, found = read_records(fill_from(b"x\n" + b"1\n" * 100_000), "x.csv")
    assert [len(rows) for rows in found] == [65_536, 34_464]


def test_a_file_with_foreign_line_ends_is_refused_quickly() -> None:
    """A file of 100,000 records with unknown line ends is parsed as one long header."""
    data = b"x,y" + b"".join(b"\r%d,a%d" % (n, n) for n in range(100_000))
    began = time.thread_time()
    with pytest.raises(Terminal, match="convert the line ends"):
        read(data)
    assert time.thread_time() - began < 5  # of the processor
