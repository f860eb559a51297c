"""The claims about Spillway's speed, each with its figure and its limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks import throughput as t
from benchmarks.alternatives import ALTERNATIVES
from benchmarks.busy_streams import RATIO as STREAMS_RATIO
from benchmarks.idle import CONNECTIONS, CPU_SECONDS, FIRST_ROW_SECONDS, SECONDS, TICK_CPU_SECONDS
from benchmarks.latency import HOLD_SECONDS
from benchmarks.measure import Run, Spread, ratio
from benchmarks.planning import LIMIT_MS
from benchmarks.scale import LEDGER_RATIO, PER_STREAM_MS
from benchmarks.tables import DIRECT, KEYED, TableRuns

EXECUTEMANY = "consumer group + executemany"


@dataclass(frozen=True)
class Claim:
    """`found` must be at least, or at most, `bar`."""

    what: str
    found: Spread
    bar: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the median meets the claim."""
        return self.found.median <= self.bar if self.at_most else self.found.median >= self.bar


def of_throughput(found: Mapping[str, t.Runs]) -> Iterator[Claim]:
    """The claims that compare runs of one workload."""
    for kind, cpu_bar in ((t.FLAT, 4.0), (t.DOCUMENTS, 8.0)):
        runs = found.get(kind)
        if runs is None:
            continue
        for what, ours, theirs, bar in (
            ("drain ÷ prepared COPY, 1 connection", t.DRAIN_1, t.COPY_1, 1.0),
            ("drain ÷ prepared COPY, 2 connections", t.DRAIN_2, t.COPY_2, 0.85),
            ("Prefect flow ÷ plain functions", t.FLOW, t.DRAIN_2, 0.95),
            ("exactly-once on ÷ off", t.DRAIN_1, t.UNGUARDED, 0.97),
            ("drain ÷ consumer group + executemany", t.DRAIN_2, EXECUTEMANY, 3.0),
            ("1 % duplicates ÷ none", t.ONE_PERCENT, t.DRAIN_1, 0.75),
            ("all duplicates ÷ fresh", t.ALL, t.DRAIN_1, 1.0),
        ):
            # The documents are too few for this claim: the fixed second of a flow run would dominate.
            if ours in runs and theirs in runs and not (ours == t.FLOW and kind == t.DOCUMENTS):
                yield Claim(f"{what}; {kind}", ratio(runs[ours], runs[theirs]), bar)
        others = [_best(at) for at in zip(*(runs[n] for n in ALTERNATIVES if n != EXECUTEMANY), strict=True)]
        yield Claim(f"drain ÷ the best of the other alternatives; {kind}", ratio(runs[t.DRAIN_2], others), 1.2)
        cpu = Spread.of([run.cpu_us for run in runs[t.CLIENT]])
        yield Claim(f"client CPU, µs/event; {kind}", cpu, cpu_bar, at_most=True)


def _best(runs: tuple[Run, ...]) -> Run:
    return max(runs, key=lambda run: run.rate)


def of_tables(found: Mapping[str, TableRuns]) -> Iterator[Claim]:
    """The claims about tables of the user's own."""
    for name, runs in found.items():
        yield Claim(f"drain ÷ prepared COPY, 1 connection; {name}", ratio(runs.drain, runs.copy), 0.95)
    if DIRECT in found and KEYED in found:
        direct, keyed = found[DIRECT], found[KEYED]
        yield Claim("direct compression ÷ the same rows with a key", ratio(direct.drain, keyed.drain), 3)
        share = direct.size / keyed.size
        yield Claim("size with direct compression ÷ with a key", Spread(share, share, share), 0.15, at_most=True)


def of_the_rest(memory: Mapping[str, Any], planning: Mapping[str, Any], idle: Mapping[str, Any],
                latency: Mapping[str, Any], scale: Mapping[str, Any],
                busy: Mapping[str, Any]) -> Iterator[Claim]:  # fmt: skip
    """The claims that do not compare runs."""
    for what, figure, bar in (
        ("peak memory, MB", max(backlog["peak_mb"] for backlog in memory["backlogs"]), 400),
        ("peak memory, 5,000,000 ÷ 500,000 events", memory["ratio"], 1.1),
        ("planning with 100,000 ranges, ms of server time", planning["plan_ms"], LIMIT_MS),
        ("nothing to drain: s in the flow", idle["flow_seconds"], SECONDS),
        ("nothing to drain: s of processor time", idle["cpu_seconds"], CPU_SECONDS),
        ("nothing to drain: s of processor time of a tick when serving", idle["tick_cpu_seconds"], TICK_CPU_SECONDS),
        ("one entry to drain: s until its row is committed", idle["first_row_seconds"], FIRST_ROW_SECONDS),
        ("nothing to drain: connections to Redis", idle["redis_connections"], CONNECTIONS),
        ("nothing to drain: connections to PostgreSQL", idle["postgres_connections"], CONNECTIONS),
        ("a stream with nothing new, ms of processor time", scale["ms_per_idle_stream"], PER_STREAM_MS),
        ("a settlement at 300 streams of 1,000 ranges ÷ at 10 of 100", scale["settlement_ratio"], LEDGER_RATIO),
        ("1,000 streams with 99 new entries ÷ one stream with as many, processor time", busy["ratio"], STREAMS_RATIO),
        ("one page holds Redis, ms", latency["longest_page_ms"], HOLD_SECONDS * 1e3),
    ):
        yield Claim(what, Spread(figure, figure, figure), bar, at_most=True)
