"""The metrics as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flows.metrics_server import metrics_text
from infra.settings import Settings
from tasks.metrics import collector
from tests.support.metrics import Samples, samples


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no fault."""
    limits = dict.fromkeys(collector._LIMITS_SECONDS, 60.0)
    limits["lock_timeout"] = collector._LIMITS_SECONDS["lock_timeout"]
    monkeypatch.setattr(collector, "_LIMITS_SECONDS", limits)
    for name in ("_LEDGER_SECONDS", "_CHUNKS_SECONDS"):
        monkeypatch.setattr(collector, name, 240.0)


@pytest.fixture
def exported(configure: Callable[..., Settings]) -> Callable[..., Samples]:
    """Collect all metrics, with settings. No server may fail."""

    def collect(**values: object) -> Samples:
        text, faults = metrics_text(configure(**values))
        assert faults == {}
        return samples(text)

    return collect
