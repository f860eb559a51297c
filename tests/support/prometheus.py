"""A real Prometheus that scrapes an exporter every few seconds, and what it answers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.settings import PROJECT_ROOT
from tests.support.ports import free_port
from tests.support.waiting import wait_until

ALERTS = PROJECT_ROOT / "infra" / "monitoring" / "alerts.yaml"
DASHBOARD: dict[str, Any] = json.loads((PROJECT_ROOT / "infra" / "monitoring" / "dashboard.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
_CONFIG = """
global: {{scrape_interval: {scrape}, scrape_timeout: {timeout}, evaluation_interval: {evaluation}}}
rule_files: [alerts.yaml]
scrape_configs:
  - job_name: spillway
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
_QUICK = {"scrape": "5s", "timeout": "5s", "evaluation": "1s"}
_USUAL = {"scrape": "15s", "timeout": "10s", "evaluation": "15s"}


def filled(query: str) -> str:
    """A query of the dashboard, with its variables replaced as Grafana does it."""
    for variable, value in (("$instance", ".*"), ("$stream", ".*"), ("$__rate_interval", "10m")):
        query = query.replace(variable, value)
    return query


@dataclass(frozen=True)
class Prometheus:
    """`log`: the file with its output."""

    port: int
    log: Path

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that answer an expression now."""
        parameters = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/query?{parameters}", timeout=60) as reply:
            found: list[dict[str, Any]] = json.load(reply)["data"]["result"]
        return found

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        return {one["metric"]["alertname"] for one in self.query('ALERTS{alertstate="firing"}')}

    def graph(self, expressions: Sequence[str], since: str) -> str:
        """The URL of Prometheus's page with a graph of each expression."""
        shown = {}
        for number, expression in enumerate(expressions):
            shown |= {f"g{number}.expr": expression, f"g{number}.tab": "0", f"g{number}.range_input": since}
        return f"http://127.0.0.1:{self.port}/graph?{urllib.parse.urlencode(shown)}"

    def wait_for(
        self, condition: Callable[[], bool], seconds: float = 240, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        """Wait until a condition is true. `meanwhile` is called about every second."""

        def holds() -> bool:
            meanwhile()
            return condition()

        wait_until(holds, seconds, shown=lambda: self.log.read_text()[-4000:], every=1)

    def await_calm(self, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Wait until nothing but the watchdog has fired for so many seconds. On a machine that stands still for a
        while, something may."""
        since = time.monotonic()

        def is_calm() -> bool:
            nonlocal since
            meanwhile()
            if self.firing() != {"SpillwayWatchdog"}:
                since = time.monotonic()
            return time.monotonic() - since >= seconds

        wait_until(is_calm, 400, shown=self.firing, every=1)


@contextmanager
def running_prometheus(
    folder: Path, exporter: int, changed: Mapping[str, str] | None = None, *, as_shipped: bool = False
) -> Iterator[Prometheus]:
    """Prometheus with the alerts of infra/monitoring, until the block ends. Skips the test if it is not installed.

    `changed`: texts of the rules to replace, so that a test need not wait for minutes. A `for:` of a minute is 20 s, so
    that one late scrape is no alert, as in the file itself; a longer one is 2 s.
    `as_shipped`: with the rules as they are, and the intervals that most users have, instead.
    """
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    rules = ALERTS.read_text()
    if not as_shipped:
        rules = re.sub(r"for: (\d+\w)", lambda found: f"for: {'20s' if found[1] == '1m' else '2s'}", rules)
    for old, new in (changed or {}).items():
        assert old in rules
        rules = rules.replace(old, new)
    (folder / "alerts.yaml").write_text(rules)
    (folder / "prometheus.yml").write_text(_CONFIG.format(port=exporter, **(_USUAL if as_shipped else _QUICK)))
    port, log = free_port(), folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    found = Prometheus(port, log)
    try:
        found.wait_for(lambda: _is_ready(port))
        yield found
    finally:
        process.terminate()
        process.wait(timeout=120)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=60):
            return True
    except (urllib.error.URLError, OSError):
        return False
