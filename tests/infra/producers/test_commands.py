"""The commands: what a person types, what is in the stream afterwards, and what is printed."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from click.testing import Result
from typer.testing import CliRunner

from infra.errors.exceptions import SpillwayError
from infra.producers.commands import app
from infra.producers.generate import as_document, batches

pytestmark = pytest.mark.usefixtures("env")


def _run(*arguments: str, stdin: bytes | None = None) -> Result:
    """Run a command. Raises the error of a failing one."""
    result = CliRunner().invoke(app, list(arguments), input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def _in(client: redis.Redis, stream: str) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in client.xrange(stream)]


def _file(path: Path, *lines: bytes) -> str:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


def test_every_real_line_keeps_its_bytes(redis_client: redis.Redis, stream: str, sample: Path) -> None:
    result = _run("produce", str(sample), "--stream", stream)
    assert _in(redis_client, stream) == [{b"data": line} for line in sample.read_bytes().splitlines()]
    assert f"2,737 entries to {stream} in " in result.stdout


def test_every_real_line_survives_being_split(redis_client: redis.Redis, stream: str, sample: Path) -> None:
    _run("produce", str(sample), "--stream", stream, "--flat")
    entries = _in(redis_client, stream)
    documents = [json.loads(line) for line in sample.read_bytes().splitlines()]
    assert len(entries) == len(documents)
    for entry, document in zip(entries, documents, strict=True):
        assert set(entry) == {key.encode() for key, value in document.items() if value is not None}
        for key, value in document.items():
            found = entry[key.encode()]
            assert (found.decode() if isinstance(value, str) else json.loads(found)) == value


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
def test_standard_input_is_read_and_blank_lines_are_reported(
    redis_client: redis.Redis, stream: str, zipped: bool
) -> None:
    data = b'{"a":1}\n\nno json \xff\n\n'
    result = _run("produce", "-", "--stream", stream, stdin=gzip.compress(data) if zipped else data)
    assert _in(redis_client, stream) == [{b"data": b'{"a":1}'}, {b"data": b"no json \xff"}]
    assert "2 entries" in result.stdout
    assert "2 blank lines skipped" in result.stdout


def test_a_gzip_file_is_decompressed(redis_client: redis.Redis, stream: str, tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson.gz"
    path.write_bytes(gzip.compress(b'{"a":1}\n{"a":2}\n'))
    _run("produce", str(path), "--stream", stream)
    assert _in(redis_client, stream) == [{b"data": b'{"a":1}'}, {b"data": b'{"a":2}'}]


def test_a_line_that_cannot_be_split_is_named_and_earlier_entries_stay(
    redis_client: redis.Redis, stream: str, tmp_path: Path
) -> None:
    path = _file(tmp_path / "x.ndjson", b'{"a":1}', b"", b'{"a":"x"}', b"[1]", b'{"a":3}')
    with pytest.raises(SpillwayError, match=rf"x\.ndjson, line 4: .*; 2 entries before it are in {stream}; fix"):
        _run("produce", path, "--stream", stream, "--flat")
    assert _in(redis_client, stream) == [{b"a": b"1"}, {b"a": b"x"}]


def test_the_complete_lines_of_a_broken_gzip_stay(redis_client: redis.Redis, stream: str, tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson.gz"
    path.write_bytes(gzip.compress(b"".join(b'{"n":%d}\n' % i for i in range(50_000)))[:-20])
    with pytest.raises(SpillwayError, match="the gzip is broken after line") as caught:
        _run("produce", str(path), "--stream", stream)
    entries = _in(redis_client, stream)
    assert f"{len(entries):,} entries before it are in {stream}" in str(caught.value)
    assert entries == [{b"data": b'{"n":%d}' % i} for i in range(len(entries))]


def test_generate_fills_a_stream_with_the_events_of_its_options(redis_client: redis.Redis, stream: str) -> None:
    options = ["--seed", "5", "--duplicates", "0.1", "--bad", "0.1", "--late", "0.1", "--span", "3"]
    result = _run("generate", "--events", "300", "--stream", stream, *options, "--start", "2026-03-01T12:00Z")
    start = datetime(2026, 3, 1, 12, tzinfo=UTC)
    made = batches(300, seed=5, duplicates=0.1, bad=0.1, late=0.1, span_hours=3, start=start)
    assert _in(redis_client, stream) == [entry for batch in made for entry in batch.entries]
    assert f"300 entries to {stream} in " in result.stdout
    assert "--seed 5 --start 2026-03-01T12:00:00+00:00" in result.stdout


def test_generate_makes_documents(redis_client: redis.Redis, stream: str) -> None:
    _run("generate", "--events", "20", "--stream", stream, "--start", "2026-03-01", "--json")
    made = batches(20, start=datetime(2026, 3, 1, tzinfo=UTC))
    assert _in(redis_client, stream) == [as_document(entry) for batch in made for entry in batch.entries]


@pytest.mark.parametrize("option", [("--rate", "0"), ("--start", "noon"), ("--bad", "2"), ("--span", "-1")], ids=str)
def test_an_invalid_option_is_a_usage_error(redis_client: redis.Redis, stream: str, option: tuple[str, str]) -> None:
    result = CliRunner().invoke(app, ["generate", "--events", "1", "--stream", stream, *option])
    assert result.exit_code == 2
    assert not redis_client.exists(stream)


def test_the_installed_command_reports_an_error_in_one_line(env: dict[str, str], tmp_path: Path) -> None:
    spillway = Path(sys.executable).with_name("spillway")
    done = subprocess.run(
        [spillway, "produce", tmp_path / "no.ndjson", "--stream", "s"],
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"error: {tmp_path}/no.ndjson: no such file; correct the path, or use - for standard input\n"
