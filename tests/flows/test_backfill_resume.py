"""A file is known: given again, as a copy, changed, stopped in the middle, or with another mapping."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from flows.backfill import backfill
from flows.drain import drain
from flows.reconcile import reconcile
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.settings import Settings
from tests.support.backfill_sources import as_document, csv_text, file_sha256, flat_columns, ndjson, written
from tests.support.oracle import crossref_rows, flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.results import backfill_counts, ledger_of_file
from tests.support.stream_entries import event
from tests.support.triggers import failing_at, trigger

pytestmark = pytest.mark.usefixtures("prefect_server")

Configure = Callable[..., Settings]


def test_a_file_given_again_is_known_at_any_path_and_nothing_is_read(
    sample: Path, database: psycopg.Connection, tmp_path: Path
) -> None:
    path = str(shutil.copy(sample, tmp_path / "crossref.ndjson"))
    first = backfill(path)
    assert backfill_counts(first) == (2_737, 2_654, 83, 0)
    assert ledger_of_file(first) == f"file:{file_sha256(path)}"
    for again in (path, str(shutil.copy(path, tmp_path / "crossref-copy.ndjson"))):
        result = backfill(again)
        assert backfill_counts(result) == (0, 0, 0, 0)
        assert (result["remaining"], result["rows"], result["sources"][0]["state"]) == (0, 2_737, "known")
    assert table_rows(database) == crossref_rows(sample.read_bytes().splitlines())
    assert database.execute("SELECT count(*) FROM spillway.streams").fetchone() == (1,)
    assert ledger_is_whole(database, ledger_of_file(first))


def test_a_file_and_its_copy_in_one_backfill_are_loaded_once(database: psycopg.Connection, tmp_path: Path) -> None:
    entries = [event(n) for n in range(50)]
    for name in ("a.csv", "b.csv"):
        written(tmp_path, name, csv_text(map(flat_columns, entries)))
    result = backfill(str(tmp_path))
    assert (result["inserted"], result["duplicates"]) == (50, 0)
    assert table_rows(database) == flat_rows(entries)
    assert reconcile("*", deep=True)["balanced"]


def test_a_file_that_changed_is_refused_with_both_hashes_and_counts(
    database: psycopg.Connection, tmp_path: Path
) -> None:
    entries = [event(n) for n in range(40)]
    path = written(tmp_path, "x.csv", csv_text(map(flat_columns, entries[:30])))
    backfill(path)
    old = file_sha256(path)
    written(tmp_path, "x.csv", csv_text(map(flat_columns, entries)))
    with pytest.raises(Terminal) as refused:
        backfill(path)
    for part in (
        path,
        "30 rows",
        old[:12],
        "40 rows",
        file_sha256(path)[:12],
        "nothing was loaded",
        "rename the new one",
    ):
        assert part in str(refused.value)
    assert table_rows(database) == flat_rows(entries[:30])
    moved = str(shutil.move(path, tmp_path / "y.csv"))
    assert backfill_counts(backfill(moved)) == (40, 10, 30, 0)
    assert table_rows(database) == flat_rows(entries)


@pytest.mark.parametrize("form", ["ndjson", "csv"])
@pytest.mark.parametrize(("at", "parallel"), [(3, 1), (150, 1), (150, 3), (333, 2), (499, 3)])
def test_a_source_that_failed_in_the_middle_continues_and_is_exact(
    form: str, at: int, parallel: int, database: psycopg.Connection, tmp_path: Path, configure: Configure
) -> None:
    """The slices around the one that fails are still loaded, so gaps remain, also within a day."""
    configure(batch_rows=40)
    entries = [event(n, time=f"2026-10-{1 + n // 100:02}T00:{n // 60 % 60:02}:{n % 60:02}Z") for n in range(500)]
    rows = [*entries, *entries[50:60]]
    random.Random(at).shuffle(rows)
    data = csv_text(map(flat_columns, rows)) if form == "csv" else ndjson(map(as_document, rows))
    path = written(tmp_path, f"x.{form}", data)
    with trigger(database, failing_at(entries[at][b"event_id"].decode())), pytest.raises(Terminal, match="untouched"):
        backfill(path, parallel=parallel)
    part = table_rows(database)
    assert len(part) < 500
    expected = flat_rows(entries)
    assert part.items() <= expected.items()
    result = backfill(path, parallel=parallel)
    assert table_rows(database) == expected
    assert result["sources"][0]["state"] == ("in part" if part else "new")
    assert ledger_sums(database, ledger_of_file(result)) == (510, 500, 10, 0)
    assert ledger_is_whole(database, ledger_of_file(result))
    assert backfill_counts(backfill(path)) == (0, 0, 0, 0)
    found = reconcile("*", deep=True)
    assert (found["balanced"], found["compared"]) == (True, 510)


def test_one_source_that_fails_does_not_keep_the_others_from_being_loaded(
    database: psycopg.Connection, tmp_path: Path
) -> None:
    good = [event(n) for n in range(20)]
    bad = [event(100 + n) for n in range(20)]
    written(tmp_path, "a.csv", csv_text(map(flat_columns, bad)))
    written(tmp_path, "b.csv", csv_text(map(flat_columns, good)))
    with trigger(database, failing_at(bad[7][b"event_id"].decode())), pytest.raises(Terminal, match=r"a\.csv|file:"):
        backfill(str(tmp_path))
    assert table_rows(database) == flat_rows(good)
    assert backfill(str(tmp_path))["inserted"] == 20
    assert table_rows(database) == flat_rows([*good, *bad])


def test_if_the_end_fails_too_the_error_of_a_source_is_reported_first(
    database: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flows.plain.backfill as module

    def fail(*_: object) -> None:
        raise Terminal("compress: no room")

    reported: list[dict[str, Any]] = []
    monkeypatch.setattr(module.Compressor, "finish", fail)
    monkeypatch.setattr(module, "report_backfill", reported.append)
    entries = [event(n) for n in range(20)]
    path = written(tmp_path, "x.csv", csv_text(map(flat_columns, entries)))
    with (
        trigger(database, failing_at(entries[7][b"event_id"].decode())),
        pytest.raises(Terminal, match=r"untouched.*; compress:"),
    ):
        backfill(path)
    with pytest.raises(Terminal, match=r"^compress: no room$"):
        backfill(path)
    assert table_rows(database) == flat_rows(entries)
    assert [one["inserted"] for one in reported] == [0, 20]


def mapping_file(folder: Path, time: str) -> Path:
    path = folder / "spillway.toml"
    path.write_text(
        f'[streams."clicks*"]\nlayout = "flat"\ntime = "{time}"\nevent_id = "event_id"\nevent_type = "event_type"\n'
        'user_id = "user_id"\nproperties = "properties"\n'
    )
    return path


def test_a_mapping_with_another_time_is_refused_while_a_part_is_loaded(
    database: psycopg.Connection, tmp_path: Path, configure: Configure
) -> None:
    configure(batch_rows=10, mappings=mapping_file(tmp_path, "time"))
    entries = [event(n) for n in range(60)]
    rows = [flat_columns(entry) | {"sent": "2026-11-21T00:00:00Z"} for entry in entries]
    path = written(tmp_path, "clicks.csv", csv_text(rows, list(rows[0])))
    with trigger(database, failing_at(entries[45][b"event_id"].decode())), pytest.raises(Terminal, match="untouched"):
        backfill(path, parallel=1)
    loaded = table_rows(database)
    assert 0 < len(loaded) < 60
    configure(mappings=mapping_file(tmp_path, "sent"))
    with pytest.raises(Terminal) as refused:
        backfill(path)
    for part in (path, f"{len(loaded)} of its 60 rows", "time", "sent", "--again"):
        assert part in str(refused.value)
    assert table_rows(database) == loaded
    configure(mappings=mapping_file(tmp_path, "time"))
    backfill(path)
    assert table_rows(database) == flat_rows(entries)


def test_again_loads_a_known_file_and_counts_existing_rows_as_duplicates(
    database: psycopg.Connection, tmp_path: Path
) -> None:
    entries = [event(n) for n in range(50)]
    path = written(tmp_path, "x.csv", csv_text(map(flat_columns, entries)))
    backfill(path)
    database.execute("DELETE FROM events WHERE user_id = 'user-3'")
    gone = 50 - len(table_rows(database))
    result = backfill(path, again=True)
    assert backfill_counts(result) == (50, gone, 50 - gone, 0)
    assert table_rows(database) == flat_rows(entries)
    assert ledger_of_file(result).startswith(f"file:{file_sha256(path)}@again-")
    assert backfill_counts(backfill(path)) == (0, 0, 0, 0)
    found = reconcile("*", deep=True)
    assert (found["balanced"], [one["stream"] for one in found["streams"]]) == (True, [f"file:{file_sha256(path)}"])


def test_a_range_of_a_stream_is_loaded_once_whoever_comes_first(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    entries = [event(n) for n in range(300)]
    send(redis_client, stream, entries)
    ids = [entry_id.decode() for entry_id, _ in redis_client.xrange(stream)]  # type: ignore[union-attr]
    drain(stream, max_events=100)
    result = backfill(stream=stream, since=ids[80], until=ids[199])
    assert (backfill_counts(result), result["remaining"]) == ((100, 100, 0, 0), 100)
    assert table_rows(database) == flat_rows(entries[:200])
    assert reconcile(stream, deep=True)["balanced"]
    ahead = backfill(stream=stream, since=ids[250], until=ids[259])
    assert backfill_counts(ahead) == (10, 10, 0, 0)
    again = backfill(stream=stream, since=ids[50], until=ids[259], again=True)
    assert backfill_counts(again) == (210, 50, 160, 0)
    last = drain(stream)
    assert (last["read"], last["inserted"], last["duplicates"], last["lost"], last["lag"]) == (90, 40, 50, 0, 0)
    assert table_rows(database) == flat_rows(entries)
    assert ledger_is_whole(database, stream)
    found = reconcile("*", deep=True)
    assert (found["balanced"], found["compared"]) == (True, 300)
    assert backfill_counts(backfill(stream=stream)) == (0, 0, 0, 0)


def test_a_stream_that_was_never_drained_may_be_backfilled_from_its_middle(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    entries = [event(n) for n in range(100)]
    send(redis_client, stream, entries)
    ids = [entry_id.decode() for entry_id, _ in redis_client.xrange(stream)]  # type: ignore[union-attr]
    assert backfill_counts(backfill(stream=stream, since=ids[40], until=ids[59])) == (20, 20, 0, 0)
    assert table_rows(database) == flat_rows(entries[40:60])
    last = drain(stream)
    assert (last["read"], last["lost"], last["lag"]) == (80, 0, 0)
    assert table_rows(database) == flat_rows(entries)
    assert reconcile(stream, deep=True)["balanced"]


@pytest.mark.parametrize("parallel", [1, 3])
def test_skipped_rows_of_a_day_that_was_begun_before_the_horizon_passed_it_are_counted_exactly(
    parallel: int, database: psycopg.Connection, tmp_path: Path, configure: Configure
) -> None:
    """A run fails in the middle of a day. When the next one skips that day, the totals say how many rows it has."""
    old, new = datetime.now(UTC) - timedelta(days=40), datetime.now(UTC) - timedelta(days=2)
    entries = [event(n, time=(new if n % 3 else old).isoformat()) for n in range(60)]
    path = written(tmp_path, "x.csv", csv_text(map(flat_columns, entries)))
    configure(batch_rows=3)
    with trigger(database, failing_at(entries[30][b"event_id"].decode())), pytest.raises(Terminal, match="untouched"):
        backfill(path, parallel=parallel)
    loaded = len(table_rows(database))
    assert loaded
    configure(keep="30d")
    result = backfill(path, expired="skip")
    skipped = 60 - loaded - result["read"]
    found = reconcile("file:*", deep=True, fail=False)
    assert (found["findings"], found["compared"]) == ([], 60 - skipped)
    assert (result["expired"], result["remaining"]) == (skipped, 60 - loaded - skipped)
    rest = backfill(path, expired="load")
    assert backfill_counts(rest) == (skipped, skipped, 0, 0)
    assert table_rows(database) == flat_rows(entries)
    assert reconcile("file:*", deep=True)["balanced"]
