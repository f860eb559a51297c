"""Metrics over HTTP, for Prometheus, and as a text."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest, start_http_server

from infra.errors.exceptions import Terminal
from infra.setting_values import read_listen
from infra.settings import Settings
from tasks.metrics.collector import MetricsCollector

_READABLE = 0o644  # node_exporter runs as a user of its own


@contextmanager
def metrics_registry(config: Settings) -> Iterator[tuple[CollectorRegistry, MetricsCollector]]:
    """A registry with Spillway's metrics only, and their collector, whose connections close with the block."""
    registry, collector = CollectorRegistry(), MetricsCollector(config)
    registry.register(collector)
    try:
        yield registry, collector
    finally:
        collector.close()


@contextmanager
def metrics_served(config: Settings, listen: str) -> Iterator[str]:
    """Answer requests at `[ADDR:]PORT` in threads until the block ends. Returns the URL.

    Raises `Terminal` if nothing can listen there.
    """
    address, port = read_listen(listen)
    with metrics_registry(config) as (registry, _):
        try:
            server, thread = start_http_server(port, address, registry)
        except OSError as error:
            raise Terminal(
                f"metrics: expected to listen on {listen}, found: {error.strerror or error}; nothing was started;"
                " choose another port, or end what uses this one"
            ) from error
        try:
            yield f"http://{f'[{address}]' if ':' in address else address}:{port}/metrics"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def metrics_text(config: Settings) -> tuple[str, dict[str, str]]:
    """All metrics in Prometheus's text format, and by server why not everything could be read."""
    with metrics_registry(config) as (registry, collector):
        return generate_latest(registry).decode(), dict(collector.faults)


def write_textfile(path: Path, text: str) -> None:
    """Write a file that others may read, as a whole or not at all. Raises `Terminal`."""
    try:
        number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(text)
                os.fchmod(number, _READABLE)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    except OSError as error:
        raise Terminal(
            f"metrics: {path}: {error.strerror or error}; the file was not changed; create its folder, or fix its"
            " permissions"
        ) from error
