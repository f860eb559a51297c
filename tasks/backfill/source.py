"""What is backfilled: a file or a range of a stream, as the same kind of thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from tasks.base.addresses import IdRange
from tasks.files.scan import ScannedFile
from tasks.streams.reader import BatchLimits, BatchReader
from tasks.table.load import LoadResult


@dataclass
class BackfillSource:
    """A file or a stream's range. `ledger_name`: its name in the ledger; `shown`: for people; `rows`: in it, `left`:
    rows still to load.

    `gaps`: addresses that are left; `days`: start of a day in ms since 1970 → rows left; `expired`: rows of them that
    are past the retention horizon, `skipped_ids`: their addresses, where they are left out. `days_before`: days of a
    stream that the ledger has. `warnings`: of its mapping.
    """

    ledger_name: str
    shown: str
    rows: int
    left: int
    gaps: tuple[IdRange, ...]
    days: dict[int, int]
    reader: Callable[[Sequence[IdRange], BatchLimits], BatchReader]
    expired: int = 0
    skipped_ids: IdRange | None = None
    scanned: ScannedFile | None = None
    days_before: AbstractSet[int] = frozenset()
    warnings: Sequence[str] = ()
    loaded: list[LoadResult] = field(default_factory=list)
    overtaken: bool = False
    error: str | None = None

    @property
    def touched(self) -> AbstractSet[int]:
        """All of its days (starts in ms since 1970), also those of what is loaded: a run that was killed has loaded
        rows, and compressed nothing."""
        return (self.scanned or self).days.keys() | self.days_before

    @property
    def state(self) -> str:
        """new, in part (some of it is loaded), or known (all of it is)."""
        if not self.left:
            return "known"
        return "new" if self.left == self.rows else "in part"


def leave_out_copies(sources: Sequence[BackfillSource]) -> None:
    """Of several with the same books (files of the same bytes and columns in the path) only the first is loaded."""
    met: set[str] = set()
    for source in sources:
        if source.ledger_name in met:
            source.left, source.gaps, source.days = 0, (), {}
        met.add(source.ledger_name)
