"""Runs of flows that must fail in one expected way."""

from __future__ import annotations

from typing import Any

import pytest

from flows.drain import drain
from flows.redrive import redrive
from infra.errors.exceptions import Unsuccessful
from infra.errors.exit_codes import ExitCode
from tests.support.results import redrive_counts


def drain_with_loss(stream: str | list[str]) -> dict[str, Any]:
    """Drain a stream with lost entries. The run commits everything and then fails; returns its result."""
    with pytest.raises(Unsuccessful, match="were trimmed or deleted in Redis before they were drained") as failed:
        drain(stream)
    assert failed.value.exit_code == ExitCode.LOST
    return failed.value.result


def failed_redrive(*selected: Any, **options: Any) -> tuple[int, int, int, int]:
    """Redrive entries that are all rejected again, so that the run fails; returns its `redrive_counts`."""
    with pytest.raises(Unsuccessful, match="expected entries to succeed, found none of") as failed:
        redrive(*selected, **options)
    assert failed.value.exit_code == ExitCode.NOTHING_REDRIVEN
    return redrive_counts(failed.value.result)
