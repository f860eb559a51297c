"""Reading NDJSON: every byte of a line arrives, and a broken input is reported in one sentence."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.producers import lines as module
from infra.producers.lines import InputFault, Lines, open_lines


@given(st.lists(st.binary(min_size=1).filter(lambda b: b"\n" not in b and not b.isspace())), st.booleans())
def test_every_line_keeps_its_bytes(expected: list[bytes], zipped: bool) -> None:
    raw = b"".join(line + b"\n" for line in expected)
    if raw.startswith(b"\x1f\x8b") and not zipped:
        return  # data with the magic number of gzip is read as gzip
    assert list(Lines(io.BytesIO(gzip.compress(raw) if zipped else raw), "x")) == expected


def test_blank_lines_are_skipped_but_counted() -> None:
    lines = Lines(io.BytesIO(b'\n{"a":1}\n  \r\n\n{"b":2}\r\n{"c":3}'), "x")
    assert [(lines.number, line) for line in lines] == [(2, b'{"a":1}'), (5, b'{"b":2}\r'), (6, b'{"c":3}')]
    assert lines.blank == 3


def test_a_gzip_is_detected_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(gzip.compress(b"{}\n") + gzip.compress(b"[]\n"))
    with open_lines(str(path)) as lines:
        assert list(lines) == [b"{}", b"[]"]
        assert lines.size == lines.position == path.stat().st_size


def test_a_truncated_gzip_gives_its_whole_lines_and_then_reports_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "cut.ndjson.gz"
    path.write_bytes(gzip.compress(b"".join(b"line %d\n" % i for i in range(100_000)))[:-20])
    seen: list[bytes] = []
    with (
        open_lines(str(path)) as lines,
        pytest.raises(InputFault, match=r"broken after line \d+.*fetch the file again"),
    ):
        seen.extend(lines)
    assert seen == [b"line %d" % i for i in range(len(seen))]


def test_a_gzip_with_a_flipped_bit_is_an_input_fault() -> None:
    data = bytearray(gzip.compress(b"{}\n" * 1000))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(InputFault, match="the gzip is broken"):
        list(Lines(io.BytesIO(bytes(data)), "x"))


@pytest.mark.parametrize("content", [b"", b'{"a":1}\n'], ids=["empty", "plain text"])
def test_a_gz_file_that_is_not_gzip_is_an_input_fault(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.ndjson.gz"
    path.write_bytes(content)
    with pytest.raises(InputFault, match="expected a gzip"), open_lines(str(path)):
        pass


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    path.touch()
    with open_lines(str(path)) as lines:
        assert list(lines) == []


def test_a_line_over_the_limit_is_refused_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 10)
    lines = Lines(io.BytesIO(b"123456789\n12345678901\n"), "x")
    with pytest.raises(InputFault, match="x, line 2: expected at most 10 bytes, found more"):
        list(lines)


def test_a_missing_file_and_a_directory_are_reported_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(InputFault, match="no such file; correct the path"), open_lines(str(tmp_path / "no")):
        pass
    with pytest.raises(InputFault, match="found a directory; name one"), open_lines(str(tmp_path)):
        pass
