"""Prometheus's text formats, read by prometheus-client's parsers; and promtool, if this machine has it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Samples = dict[str, dict[Labels, float]]


def labels(**values: str) -> Labels:
    return frozenset(values.items())


def samples(text: str) -> Samples:
    """The value of each sample in Prometheus's text format, by its name and labels."""
    return _samples(text_string_to_metric_families(text))


def openmetrics_samples(text: str) -> Samples:
    """The same of an OpenMetrics text; raises `ValueError` if it is not valid."""
    return _samples(read_openmetrics(text))


def _samples(families: Iterable[Metric]) -> Samples:
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            of_name = found.setdefault(sample.name, {})
            names = frozenset(sample.labels.items())
            assert names not in of_name, f"{sample.name}{sample.labels} is twice in the text"
            of_name[names] = sample.value
    return found


def promtool(*arguments: str, stdin: str = "") -> str:
    """Run promtool and return what it prints. Skips the test if it is not installed; fails if it finds fault."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    done = subprocess.run([program, *arguments], input=stdin, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
