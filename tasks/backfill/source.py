"""What a backfill loads: a file or a range of a stream, described in the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from tasks.base.addresses import IdRange
from tasks.columns.batch import BatchLimits, BatchReader
from tasks.files.scan import ScannedFile
from tasks.table.load import LoadResult


@dataclass(frozen=True)
class BackfillSource:
    """A file or a range of a stream, as the plan found it.

    `ledger_name`: its name in `spillway.streams`. `display_name`: its name in messages. `table`: the quoted
    name of the table that its rows go to. `rows`: all rows in it, of
    which `remaining` are to be loaded. `gaps`: the addresses of the remaining rows. `days`: the start of each day in ms
    since 1970, with its number of remaining rows. `expired`: how many of these rows are past the retention horizon.
    `skipped_ids`: the addresses of expired rows that are not loaded. `file`: the scanned file; None for a stream.
    `loaded_days`: days of a stream that the ledger already has. `warnings`: about its mapping. `tables`: those that its
    rows may go to, by name as `Table.regclass`.
    """

    ledger_name: str
    display_name: str
    table: str
    rows: int
    remaining: int
    gaps: tuple[IdRange, ...]
    days: Mapping[int, int]
    open_reader: Callable[[Sequence[IdRange], BatchLimits], BatchReader]
    expired: int = 0
    skipped_ids: IdRange | None = None
    file: ScannedFile | None = None
    loaded_days: AbstractSet[int] = frozenset()
    warnings: Sequence[str] = ()
    tables: tuple[str, ...] = ()

    @property
    def all_days(self) -> AbstractSet[int]:
        """The starts of all its days in ms since 1970.

        Days that are already loaded are included: a run that was killed has loaded rows and compressed nothing.
        """
        return (self.file or self).days.keys() | self.loaded_days

    @property
    def state(self) -> str:
        """`new` if none of it is loaded, `in part` if some of it is, `known` if all of it is."""
        if not self.remaining:
            return "known"
        return "new" if self.remaining == self.rows else "in part"


@dataclass(frozen=True)
class SourceResult:
    """What a run loaded of a source, and the first error, if there was one."""

    source: BackfillSource
    loaded: tuple[LoadResult, ...] = ()
    error: str | None = None


def leave_out_copies(sources: Sequence[BackfillSource]) -> list[BackfillSource]:
    """Load sources that share a ledger name only once: nothing remains to load of all but the first.

    Files share a ledger name if they have the same bytes, and the same columns in their paths.
    """
    seen: set[str] = set()
    distinct = []
    for source in sources:
        is_copy = source.ledger_name in seen
        distinct.append(replace(source, remaining=0, gaps=(), days={}) if is_copy else source)
        seen.add(source.ledger_name)
    return distinct
