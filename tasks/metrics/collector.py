"""Collects all metrics, from both servers. A part that cannot be read takes away its own metrics only."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from threading import Lock

import psycopg
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from infra.connections.clients import Clients
from infra.connections.session import Session
from infra.display import printable
from infra.errors.exceptions import SpillwayError
from infra.errors.redact import one_line
from infra.schema.schema_version import check_schema
from infra.settings import Settings
from tasks.metrics.chunk_figures import read_chunk_figures, wanted_tables
from tasks.metrics.families import (
    build_family,
    chunk_families,
    lag_families,
    load_family,
    stream_families,
    success_families,
    up_family,
)
from tasks.metrics.ledger_figures import (
    OTHERS,
    read_ledger_figures,
    read_load_seconds,
    read_positions,
    read_successes,
    stream_labels,
)
from tasks.metrics.stream_lag import ReadPosition, denied_streams, read_lags
from tasks.preflight.rights import check_rights
from tasks.streams.glob import is_pattern, literal

_COMMAND = "metrics"
# A collection takes less than the 10 s that Prometheus waits for an answer, also if both servers are silent: 5 s until
# PostgreSQL is given up, and 3 s of Redis. Shorter settings apply.
_LIMITS_SECONDS = {"connect_timeout": 2.0, "redis_timeout": 3.0, "statement_timeout": 4.0, "lock_timeout": 1.0}
# Since the collection began.
_LEDGER_SECONDS, _CHUNKS_SECONDS = 4.5, 5.0
_DOING = {
    "postgresql": "read from postgresql",
    "chunks": "read chunks and sizes from postgresql",
    "redis": "read from redis",
}
_LOG = logging.getLogger("spillway.metrics")


class MetricsCollector(Collector):
    """All metrics of Spillway, read from the servers at each collection; one collection at a time.

    `faults`: why the last collection could not read everything, by part: a server, `chunks` (of tables that may be
    locked), or `streams` (that the user of Redis may not read). A fault is logged when it changes.
    """

    def __init__(self, config: Settings) -> None:
        limits = {name: min(getattr(config, name), most) for name, most in _LIMITS_SECONDS.items()}
        self._config = config.model_copy(update=limits)
        self._clients = Clients(self._config, _COMMAND)
        self._lock = Lock()
        self._positions: Mapping[str, ReadPosition] | None = None
        self._labels: Mapping[str, str] = {}
        self._began = 0.0
        self.faults: dict[str, str] = {}

    def close(self) -> None:
        """Close the connections."""
        self._clients.__exit__()

    def describe(self) -> list[Metric]:
        """Nothing, so that registering the collector does not read from the servers."""
        return []

    def collect(self) -> list[Metric]:
        """Every metric that can be read now. Raises nothing of the servers."""
        with self._lock:
            self._began = time.monotonic()
            found = [build_family(version("spillway"))]
            found += self._read("postgresql", self._from_ledger)
            parts = ["postgresql", "redis"]
            if "postgresql" in self.faults:
                self._set_fault("chunks", None)
            else:
                found += self._read("chunks", self._from_catalog)
                parts.append("chunks")
            found += self._read("redis", self._from_redis)
            if "redis" in self.faults:
                self._set_fault("streams", None)
            return [*found, up_family({part: part not in self.faults for part in parts})]

    def _read(self, part: str, read: Callable[[], Iterator[Metric]]) -> list[Metric]:
        found: list[Metric] = []
        fault = None
        try:
            with self._clients.translate_errors(f"{_COMMAND}: {_DOING[part]}"):
                for family in read():
                    found.append(family)
        except SpillwayError as error:
            fault = one_line(error)
        self._set_fault(part, fault)
        return found

    def _set_fault(self, part: str, fault: str | None) -> None:
        if fault is None:
            self.faults.pop(part, None)
        elif self.faults.get(part) != fault:
            self.faults[part] = fault
            _LOG.warning(printable(fault))

    @contextmanager
    def _postgres(self, seconds: float) -> Iterator[psycopg.Connection]:
        """A connection that is given up so long after the collection began."""
        with self._clients.postgres() as connection:
            assert isinstance(connection, Session)  # every connection is opened as one
            connection.give_up_at = self._began + seconds
            yield connection

    def _from_ledger(self) -> Iterator[Metric]:
        with self._postgres(_LEDGER_SECONDS) as connection:
            check_rights(connection, _COMMAND)
            check_schema(connection)
            figures = read_ledger_figures(connection)
            self._labels = stream_labels(figures, self._config.metrics_streams)
            self._positions = read_positions(figures)
            yield from stream_families(figures, self._labels)
            yield from success_families(read_successes(connection), self._config.drain_every)
            yield load_family(read_load_seconds(connection))

    def _from_catalog(self) -> Iterator[Metric]:
        """Apart from the ledger: the size of a table is not known while somebody else has locked it."""
        with self._postgres(_CHUNKS_SECONDS) as connection:
            yield from chunk_families(read_chunk_figures(connection, wanted_tables(connection, self._config)))

    def _from_redis(self) -> Iterator[Metric]:
        """The lags, by the positions of the last answer of PostgreSQL: entries that were drained since count as lag."""
        if self._positions is None:
            self._clients.redis.ping()
            return
        scheduled = [literal(name) for name in self._config.scheduled_streams if not is_pattern(name)]
        known = set(self._labels.values())
        room = self._config.metrics_streams - len(known)
        positions = {name: ReadPosition() for name in scheduled if name not in self._positions}
        labels = {name: name if number < room else OTHERS for number, name in enumerate(positions)}
        lags, denied = read_lags(self._clients.redis, {**positions, **self._positions})
        patterns = self._config.scheduled_streams
        self._set_fault("streams", denied_streams(denied, _COMMAND, patterns) if denied else None)
        yield from lag_families(lags, {**labels, **self._labels})
