"""The metrics as families of prometheus-client, from figures. All names and labels are here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from tasks.ledger.load_seconds import LOAD_SECONDS
from tasks.metrics.chunk_figures import ChunkFigures
from tasks.metrics.ledger_figures import LedgerFigures, LoadSeconds
from tasks.metrics.stream_lag import StreamLag


def build_family(version: str) -> Metric:
    """`spillway_build_info`."""
    found = GaugeMetricFamily("spillway_build_info", "Always 1; the version of Spillway.", labels=["version"])
    found.add_metric([version], 1)
    return found


def up_family(up: Mapping[str, bool]) -> Metric:
    """`spillway_up`: by server."""
    text = "Whether a part could be read; server: postgresql, redis, or chunks, in PostgreSQL's catalog."
    found = GaugeMetricFamily("spillway_up", text, labels=["server"])
    for server, answers in up.items():
        found.add_metric([server], int(answers))
    return found


def stream_families(figures: Iterable[LedgerFigures], labels: Mapping[str, str]) -> Iterator[Metric]:
    """What the ledger says of streams. `labels`: the label of each name in the ledger; equal labels are summed."""
    events: Counter[tuple[str, str, str]] = Counter()
    waiting: Counter[str] = Counter()
    unaccepted: Counter[str] = Counter()
    balanced: dict[str, bool] = {}
    for one in figures:
        label = labels[one.name]
        for table, rows in one.inserted.items():
            events[label, table, "inserted"] += rows
        others = {"duplicate": one.duplicates, "conflict": one.conflicts, "rejected": one.rejected, "lost": one.lost}
        for result, count in others.items():
            events[label, one.table, result] += count
        waiting[label] += one.waiting
        unaccepted[label] += one.lost - one.accepted
        balanced[label] = balanced.get(label, True) and one.balanced
    text = "What became of entries; result: inserted, duplicate, conflict, rejected or lost."
    family = CounterMetricFamily("spillway_events", text, labels=["stream", "table", "result"])
    for names, count in events.items():
        family.add_metric(names, count)
    yield family
    yield _gauge("spillway_quarantine_waiting", "Quarantined entries, neither redriven nor discarded.", waiting)
    yield _gauge("spillway_lost_unaccepted", "Lost entries whose loss nobody has accepted.", unaccepted)
    yield _gauge("spillway_ledger_balanced", "1 if the laws of the ledger hold, else 0.", balanced)


def lag_families(lags: Mapping[str, StreamLag], labels: Mapping[str, str]) -> Iterator[Metric]:
    """How far behind streams are. Of several streams with one label: the sum, and the age of the oldest."""
    entries: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    for name, lag in lags.items():
        label = labels[name]
        entries[label] += lag.entries
        seconds[label] = max(seconds.get(label, 0.0), lag.seconds)
    yield _gauge("spillway_stream_lag_entries", "Entries in Redis that are not drained.", entries)
    yield _gauge("spillway_stream_lag_seconds", "Age of the oldest entry that is not drained; 0 if none.", seconds)


def success_families(successes: Mapping[str, datetime], drain_every: timedelta | None) -> Iterator[Metric]:
    """When each flow last succeeded, and how often the drain is scheduled."""
    text = "When a run of the flow last succeeded."
    found = GaugeMetricFamily("spillway_last_success_timestamp_seconds", text, labels=["flow"])
    for flow, moment in successes.items():
        found.add_metric([flow], moment.timestamp())
    yield found
    if drain_every is not None:
        text = "The interval of the scheduled drain: SPILLWAY_DRAIN_EVERY, or --every of spillway serve."
        yield GaugeMetricFamily("spillway_drain_interval_seconds", text, value=drain_every.total_seconds())


def load_family(loads: LoadSeconds) -> Metric:
    """`spillway_load_duration_seconds`: a histogram."""
    bounds = [*(str(bound) for bound in LOAD_SECONDS), "+Inf"]
    text = "How long the loads of ranges into a table took."
    found = HistogramMetricFamily("spillway_load_duration_seconds", text)
    found.add_metric([], list(zip(bounds, accumulate(loads.buckets), strict=True)), loads.total)
    return found


def chunk_families(figures: Iterable[ChunkFigures]) -> Iterator[Metric]:
    """The chunks and the size of each table, by state."""
    chunks = GaugeMetricFamily(
        "spillway_chunks",
        "Chunks of a hypertable; state: rows, compressed, partial or frozen.",
        labels=["table", "state"],
    )
    text = "Size of a table with its indexes, by the state of its chunks."
    sizes = GaugeMetricFamily("spillway_table_bytes", text, labels=["table", "state"])
    overdue: Counter[tuple[str, str]] = Counter()
    for one in figures:
        table = f"{one.schema}.{one.table}"
        if one.chunks is not None:
            chunks.add_metric([table, one.state], one.chunks)
            overdue[table, "compress"] += one.to_compress
            overdue[table, "recompress"] += one.to_recompress
            overdue[table, "drop"] += one.to_drop
        sizes.add_metric([table, one.state], one.bytes)
    yield chunks
    yield sizes
    text = "Chunks that should have been compressed or dropped 26 hours ago; action: compress, recompress or drop."
    late = GaugeMetricFamily("spillway_chunks_overdue", text, labels=["table", "action"])
    for names, count in overdue.items():
        late.add_metric(names, count)
    yield late


def _gauge(name: str, text: str, values: Mapping[str, float]) -> Metric:
    """A gauge with a value for each stream."""
    found = GaugeMetricFamily(name, text, labels=["stream"])
    for label, value in values.items():
        found.add_metric([label], value)
    return found
