"""The parts of a flow's result that tests compare."""

from __future__ import annotations

from typing import Any


def backfill_counts(result: dict[str, Any]) -> tuple[int, int, int, int]:
    return tuple(result[name] for name in ("read", "inserted", "duplicates", "quarantined"))  # type: ignore[return-value]


def ledger_of_file(result: dict[str, Any]) -> str:
    (source,) = result["sources"]
    return str(source["ledger_name"])


def drain_counts(result: dict[str, Any]) -> tuple[int, int, int, int, int]:
    return tuple(result[name] for name in ("read", "inserted", "duplicates", "quarantined", "lost"))  # type: ignore[return-value]


def findings_of(result: dict[str, Any]) -> list[tuple[str, int]]:
    return [(finding["what"], finding["count"]) for finding in result["findings"]]


def redrive_counts(result: dict[str, Any]) -> tuple[int, int, int, int]:
    return tuple(result[name] for name in ("tried", "inserted", "duplicates", "still_bad"))  # type: ignore[return-value]
