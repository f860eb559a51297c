"""Collects all metrics, from both servers. A server that fails takes away its own metrics only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from threading import Lock

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from infra.connections.clients import Clients
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
from tasks.metrics.stream_lag import ReadPosition, read_lags
from tasks.preflight.rights import check_rights
from tasks.streams.glob import is_pattern, literal

_COMMAND = "metrics"
# Together below the 10 s that Prometheus waits for an answer, unless the settings are shorter.
_LIMITS_SECONDS = {"connect_timeout": 3.0, "redis_timeout": 3.0, "statement_timeout": 5.0, "lock_timeout": 1.0}
_LOG = logging.getLogger("spillway.metrics")


class MetricsCollector(Collector):
    """All metrics of Spillway, read from the servers at each collection; one collection at a time.

    `faults`: by server, why the last collection could not read everything from it; a fault is logged when it changes.
    """

    def __init__(self, config: Settings) -> None:
        limits = {name: min(getattr(config, name), most) for name, most in _LIMITS_SECONDS.items()}
        self._config = config.model_copy(update=limits)
        self._clients = Clients(self._config, _COMMAND)
        self._lock = Lock()
        self._positions: Mapping[str, ReadPosition] | None = None
        self._labels: Mapping[str, str] = {}
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
            found = [build_family(version("spillway"))]
            found += self._read("postgresql", self._from_postgres)
            found += self._read("redis", self._from_redis)
            up = {server: server not in self.faults for server in ("postgresql", "redis")}
            return [*found, up_family(up)]

    def _read(self, server: str, read: Callable[[], Iterator[Metric]]) -> list[Metric]:
        found: list[Metric] = []
        fault = None
        try:
            with self._clients.translate_errors(f"{_COMMAND}: read from {server}"):
                for family in read():
                    found.append(family)
        except SpillwayError as error:
            fault = one_line(error)
        if fault is None:
            self.faults.pop(server, None)
        elif self.faults.get(server) != fault:
            self.faults[server] = fault
            _LOG.warning(printable(fault))
        return found

    def _from_postgres(self) -> Iterator[Metric]:
        with self._clients.postgres() as connection:
            check_rights(connection, _COMMAND)
            check_schema(connection)
            figures = read_ledger_figures(connection)
            self._labels = stream_labels(figures, self._config.metrics_streams)
            self._positions = read_positions(figures)
            yield from stream_families(figures, self._labels)
            yield from success_families(read_successes(connection), self._config.drain_every)
            yield load_family(read_load_seconds(connection))
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
        yield from lag_families(
            read_lags(self._clients.redis, {**positions, **self._positions}), {**labels, **self._labels}
        )
