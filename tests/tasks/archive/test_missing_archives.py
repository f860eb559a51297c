"""Which archives are missing, from the drops on record and the manifests that are there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tasks.archive.manifest import Manifest
from tasks.archive.missing_archives import ArchivedDrop, missing_archives
from tasks.table.chunks import Chunk

START = datetime(2024, 1, 4, tzinfo=UTC)
END = START + timedelta(days=7)
ARCHIVED = datetime(2026, 1, 1, tzinfo=UTC)


def archive(rows: int, content: str, days: int = 0) -> Manifest:
    """An archive of the week, made so many days after the first one."""
    chunk, at = Chunk("s", "c", START, END), ARCHIVED + timedelta(days=days)
    return Manifest(chunk, rows, START, START, content, files=(), archived_at=at)


def drop(rows: int, days: int = 0, table: str = '"public"."events"') -> ArchivedDrop:
    """A drop of the week's chunk, an hour after an archive of that day."""
    return ArchivedDrop(table, "s.c", START, END, rows, ARCHIVED + timedelta(days=days, hours=1))


def test_each_drop_needs_an_archive_of_its_own() -> None:
    first, late = drop(1_000), drop(1, days=5)
    archives = [archive(1_000, "a"), archive(1, "b", days=5)]
    assert missing_archives([first, late], archives, ()) == []
    assert missing_archives([first, late], archives[:1], ()) == [late]
    assert missing_archives([first, late], archives[1:], ()) == [first]
    again = drop(1, days=9)  # another late event, and its archive is gone
    assert missing_archives([first, late, again], archives, ()) == [again]


def test_a_copy_at_another_location_counts_once() -> None:
    drops = [drop(1), drop(1, days=5)]
    assert missing_archives(drops, [archive(1, "a"), archive(1, "a")], ()) == drops[1:]


def test_another_table_or_range_does_not_count() -> None:
    there = archive(10, "a")
    other = replace(there, hypertable="public.t", table='"public"."t"')
    assert missing_archives([drop(10)], [other], ()) == [drop(10)]
    assert missing_archives([drop(10, table='"public"."t"')], [other], ()) == []
    moved = replace(there, chunk=Chunk("s", "c", START, END + timedelta(days=7)))
    assert missing_archives([drop(10)], [moved], ()) == [drop(10)]


def test_rows_that_were_restored_and_dropped_again_are_in_the_same_archive() -> None:
    there = archive(10, "a")
    drops = [drop(10), drop(10, days=3), drop(10, days=6)]
    assert missing_archives(drops, [there], ()) == drops[1:]
    assert missing_archives(drops, [there], {there.name}) == []


def test_a_later_archive_with_more_rows_replaces_an_earlier_one() -> None:
    drops = [drop(10), drop(12, days=3)]
    assert missing_archives(drops, [archive(12, "b", days=3)], ()) == []
    assert missing_archives(drops[::-1], [archive(10, "a")], ()) == [drops[1]]
    assert missing_archives([drop(10, days=3)], [archive(12, "b")], ()) == [drop(10, days=3)]
