"""Why entries went to quarantine, grouped: what is wrong, and how often. Without their content."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from infra.display import printable
from tasks.columns.decode import Fault
from tasks.table.stage import RejectedRow

MIN_BAD_ENTRIES = 10  # bad entries: less are no sign of a wrong mapping, whatever their share of a few entries
_LISTED = 5
_POSITION = re.compile(r" \(byte \d+\)| byte 0x[0-9a-f]{2} in position [\d-]+:| in position [\d-]+|(?<=byte) 0x..")
UNKNOWN_CAUSE = "refused by the table, or in conflict with it"


def count_causes(faults: Iterable[Fault]) -> Counter[str]:
    """How many entries each cause has."""
    return Counter(map(_cause, faults))


def _cause(fault: Fault) -> str:
    """A conflict, what the table refuses, and what cannot be read are causes of their own, by field."""
    field = printable(fault.field)
    if isinstance(fault, RejectedRow):
        return f"{field + ': ' if field else ''}refused by the table [SQLSTATE {fault.state}]"
    reason = _POSITION.sub("", fault.reason.partition(", found ")[0])
    return printable(reason) if fault.conflict or not field else f"{field}: {printable(reason)}"


def exceeds_bad_share(bad: int, entries: int, share: float) -> bool:
    """Whether so many bad ones of `entries` are a sign that something is wrong with all of them."""
    return bad >= MIN_BAD_ENTRIES and bad > share * entries


def format_causes(causes: Mapping[str, int]) -> str:
    """The causes with their counts, the most frequent first; of many only the first ones."""
    most = sorted(causes.items(), key=lambda one: (-one[1], one[0]))
    shown = [f"{count:,} × {cause}" for cause, count in most[:_LISTED]]
    if rest := most[_LISTED:]:
        shown.append(f"{sum(count for _, count in rest):,} × {len(rest)} other causes")
    return "; ".join(shown)
