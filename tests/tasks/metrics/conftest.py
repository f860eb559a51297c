"""The metrics as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flows.metrics_server import metrics_text
from infra.settings import Settings
from tests.support.metrics import Samples, samples


@pytest.fixture
def exported(configure: Callable[..., Settings]) -> Callable[..., Samples]:
    """Collect all metrics, with settings. No server may fail."""

    def collect(**values: object) -> Samples:
        text, faults = metrics_text(configure(**values))
        assert faults == {}
        return samples(text)

    return collect
