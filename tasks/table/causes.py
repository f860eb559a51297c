"""Why entries went to quarantine: faults counted by cause, without the content of any entry."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from infra.display import printable
from tasks.columns.decode import Fault
from tasks.table.quarantine import POSITION
from tasks.table.stage import RejectedRow

MIN_BAD_ENTRIES = 10  # fewer are no sign of a wrong mapping, whatever their share of a small batch
_LISTED = 5  # causes; the others are summed up
_POSITION = re.compile(POSITION)
# The cause of faults that were counted by an earlier attempt, whose reply was lost.
UNKNOWN_CAUSE = "refused by the table, or in conflict with it"


def count_causes(faults: Iterable[Fault]) -> Counter[str]:
    """How many entries each cause has. Two faults have the same cause if they differ only in the entry's content."""
    return Counter(map(_cause, faults))


def _cause(fault: Fault) -> str:
    field = printable(fault.field)
    if isinstance(fault, RejectedRow):  # the server's message may quote the row
        return f"{field + ': ' if field else ''}refused by the table [SQLSTATE {fault.state}]"
    reason = _POSITION.sub("", fault.reason.partition(", found ")[0])
    return printable(reason) if fault.conflict or not field else f"{field}: {printable(reason)}"


def exceeds_bad_share(bad: int, entries: int, max_share: float) -> bool:
    """Whether `bad` of `entries` is a share that suggests a common cause, such as a wrong mapping."""
    return bad >= MIN_BAD_ENTRIES and bad > max_share * entries


def format_causes(causes: Mapping[str, int]) -> str:
    """The causes with their counts, the most frequent first. Beyond five, the rest is summed up."""
    ordered = sorted(causes.items(), key=lambda one: (-one[1], one[0]))
    parts = [f"{count:,} × {cause}" for cause, count in ordered[:_LISTED]]
    if rest := ordered[_LISTED:]:
        parts.append(f"{sum(count for _, count in rest):,} × {len(rest)} other causes")
    return "; ".join(parts)
