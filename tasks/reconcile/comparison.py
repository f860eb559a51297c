"""The outcome of comparing entries with the table, judged without any I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tasks.base.addresses import id_text
from tasks.ledger.stream_balance import Finding

Kind = Literal["missing", "different", "doubled", "unreadable"]

_MAX_EXAMPLES = 20  # entry ids that a finding lists; further ones are only counted


@dataclass(frozen=True)
class Suspect:
    """An entry that the table does not hold exactly once and as it is.

    `row`: its row in the batch; `time_us`: the time of its event in microseconds since 1970. Both are None if the
    entry cannot be read.
    """

    kind: Kind
    detail: str
    row: int | None = None
    time_us: int | None = None


@dataclass(frozen=True)
class Discrepancy:
    """What is wrong with one entry; `entry_id` as a number."""

    kind: Kind
    entry_id: int
    detail: str


@dataclass(frozen=True)
class Comparison:
    """The outcome for one batch. `dropped`: entries whose rows went with a chunk that retention dropped."""

    compared: int = 0
    repaired: int = 0
    dropped: int = 0
    discrepancies: tuple[Discrepancy, ...] = ()

    @property
    def counts(self) -> dict[Kind, int]:
        """The number of discrepancies of each kind."""
        return ComparisonTotals().plus(self).counts


@dataclass(frozen=True)
class ComparisonTotals:
    """The outcome for the batches of a stream. `examples`: the first discrepancies of each kind, 20 at most."""

    compared: int = 0
    repaired: int = 0
    dropped: int = 0
    counts: dict[Kind, int] = field(default_factory=dict)
    examples: dict[Kind, tuple[Discrepancy, ...]] = field(default_factory=dict)

    def plus(self, batch: Comparison) -> ComparisonTotals:
        """These totals with those of one more batch."""
        counts, examples = dict(self.counts), dict(self.examples)
        for one in batch.discrepancies:
            counts[one.kind] = counts.get(one.kind, 0) + 1
            listed = examples.get(one.kind, ())
            if len(listed) < _MAX_EXAMPLES:
                examples[one.kind] = (*listed, one)
        return ComparisonTotals(
            self.compared + batch.compared,
            self.repaired + batch.repaired,
            self.dropped + batch.dropped,
            counts,
            examples,
        )

    def findings(self, stream: str, table: str) -> Iterator[Finding]:
        """One finding for each kind of discrepancy with the table of this name, in the order of the kinds' names."""
        for kind, number in sorted(self.counts.items()):
            listed = sorted(self.examples[kind], key=lambda one: one.entry_id)
            ids = ", ".join(id_text(one.entry_id) for one in listed) + (" …" if number > len(listed) else "")
            yield Finding(stream, kind, ids, number, listed[0].detail, _repair(kind, stream, table, listed))


def _repair(kind: Kind, stream: str, table: str, listed: list[Discrepancy]) -> str:
    span = ""
    if len(listed) < _MAX_EXAMPLES:
        span = f"--since {id_text(listed[0].entry_id)} --until {id_text(listed[-1].entry_id)}"
    deep = " ".join(f"spillway reconcile --stream {stream} --deep {span} --repair".split())
    return {
        "missing": deep,
        "different": f"if the stream is right, delete the row from {table}, then {deep}",
        "doubled": f"delete all but one of the rows (their ctid differs), then REINDEX TABLE {table}",
        "unreadable": f"fix the mapping of {stream} (spillway.toml): the entry could be read when it was drained",
    }[kind]


def suspect_row(row: int, time_us: int | None, found: int, different_column: str | None, by: str = "key") -> Suspect:
    """Why a row is suspect: the table has `found` rows with its key, and the one with its key differs in a column.

    `by`: what rows are recognised by, `key` or `values`.
    """
    if not found:
        return Suspect("missing", f"no row has its {by}", row, time_us)
    if different_column:
        return Suspect("different", f"its row has another {different_column}", row, time_us)
    return Suspect("doubled", f"{found} rows have its key", row, time_us)


def with_repeats(suspects: Mapping[int, Suspect], repeats: Iterable[tuple[int, int]]) -> dict[int, Suspect]:
    """The suspects by entry, and each entry that repeats a suspect one. `repeats`: first entry, and its repeat."""
    repeated = {entry: suspects[first] for first, entry in repeats if first in suspects}
    return {**suspects, **repeated}


def unexplained(suspects: Mapping[int, Suspect], on_record: Collection[int]) -> dict[int, Suspect]:
    """The suspects whose absence is not on record in the quarantine. A record does not explain a doubled row."""
    return {entry: one for entry, one in suspects.items() if entry not in on_record or one.kind == "doubled"}


def missing_rows(suspects: Mapping[int, Suspect]) -> list[int]:
    """The rows of the batch that are missing, in order; repeats of a row count once."""
    return sorted({one.row for one in suspects.values() if one.kind == "missing" and one.row is not None})


def judge(
    compared: int,
    dropped: int,
    suspects: Mapping[int, Suspect],
    entry_ids: Mapping[int, int],
    refused: Mapping[int, str] | None,
) -> Comparison:
    """The outcome for a batch of `compared` entries, of which `dropped` went with their chunks.

    `suspects`: by entry, what is neither on record nor dropped; `entry_ids`: their ids. `refused`: why missing rows
    could not be put back, by row; None if nothing was to be put back.
    """
    repaired = 0
    discrepancies = []
    for entry, one in suspects.items():
        refusal = None if refused is None or one.row is None else refused.get(one.row)
        if refused is not None and one.kind == "missing" and refusal is None:
            repaired += 1
        else:
            discrepancies.append(Discrepancy(one.kind, entry_ids[entry], refusal or one.detail))
    return Comparison(compared, repaired, dropped, tuple(discrepancies))
