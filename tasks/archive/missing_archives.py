"""Find the archives that are missing: the ledger has a record of each chunk that was dropped because it was archived.

An archive that is gone leaves nothing behind in its folder, and a folder that is not mounted looks empty. Only the
database knows what must be there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from infra.connections.clients import Clients
from infra.display import count_of
from infra.tables.read_table import default_table_name
from tasks.archive.manifest import Manifest, range_name
from tasks.files.archive_paths import is_archived
from tasks.table.chunks import Chunk

# An archive without rows is not missed.
_DROPS = """
    SELECT "table", chunk, range_start, range_end, rows, dropped_at FROM spillway.drops
     WHERE dropped_by = 'archive' AND rows > 0 ORDER BY "table", range_start, dropped_at"""
_FILES = "SELECT path FROM spillway.files WHERE path LIKE '%.parquet'"


@dataclass(frozen=True)
class ArchivedDrop:
    """A chunk that was dropped after its `rows` were archived. `table`: its name in the ledger."""

    table: str
    chunk: str
    range_start: datetime
    range_end: datetime
    rows: int
    dropped_at: datetime

    @property
    def range_name(self) -> str:
        """The prefix of the names of its archives."""
        return range_name(Chunk("", "", self.range_start, self.range_end))

    @property
    def display_range(self) -> str:
        start, end = (f"{time.astimezone(UTC):%Y-%m-%d %H:%M}" for time in (self.range_start, self.range_end))
        return f"{start} to {end}"


def find_missing(clients: Clients, manifests: Iterable[Manifest]) -> list[ArchivedDrop]:
    """The dropped chunks whose rows are in none of the archives. Raises `SpillwayError`."""
    with clients.translate_errors("compare the archives with the drops"), clients.postgres() as connection:
        drops, restored = read_archived_drops(connection)
    return missing_archives(drops, manifests, restored)


def read_archived_drops(connection: psycopg.Connection) -> tuple[list[ArchivedDrop], set[str]]:
    """The drops, and the names of the archives that were loaded again. Raises `psycopg.Error`."""
    drops = [ArchivedDrop(*row) for row in connection.execute(_DROPS)]
    paths = (path for (path,) in connection.execute(_FILES) if is_archived(path))
    return drops, {path.rpartition("/")[2].removesuffix(".parquet") for path in paths}


def missing_archives(
    drops: Sequence[ArchivedDrop], manifests: Iterable[Manifest], restored: Collection[str]
) -> list[ArchivedDrop]:
    """The drops without an archive. Each needs one of its own, of its range and with as many rows; but

    - rows of a `restored` archive that are dropped again are the same archive, as often as that happens;
    - a later archive with more rows of the range may have replaced it, see `supersede`.
    """
    default = default_table_name()
    of_range: dict[tuple[str, str], dict[str, Manifest]] = defaultdict(dict)
    for manifest in manifests:  # of a copy at another location, one counts
        of_range[manifest.table or default, range_name(manifest.chunk)][manifest.name] = manifest
    unused = Counter((*key, one.rows) for key, there in of_range.items() for one in there.values())
    missing = []
    for drop in drops:
        key = (drop.table, drop.range_name)
        if unused[*key, drop.rows] > 0:
            unused[*key, drop.rows] -= 1
        elif not any(_may_hold(name, manifest, drop, restored) for name, manifest in of_range.get(key, {}).items()):
            missing.append(drop)
    return missing


def _may_hold(name: str, manifest: Manifest, drop: ArchivedDrop, restored: Collection[str]) -> bool:
    if manifest.rows == drop.rows:
        return name in restored
    return manifest.rows > drop.rows and manifest.archived_at > drop.dropped_at


def describe(drop: ArchivedDrop, places: str) -> str:
    """A missing archive as an error."""
    return (
        f"archive of {drop.table}, {drop.display_range}: expected an archive of {count_of(drop.rows, 'row')}, since"
        f" {drop.chunk} was dropped after it was archived, found none in {places}; nothing was changed or recorded;"
        " mount the location or correct its URL, or bring the files back from a copy, then verify again; if they are"
        " gone for good, see docs/runbooks.md#spillwayarchiveunverified"
    )
