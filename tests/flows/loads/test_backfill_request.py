"""The parameters of a backfill are checked before anything is read or loaded."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from flows.loads.backfill_request import (
    BackfillRequest,
    ExpiredRows,
    check_expired,
    check_request,
    too_many_chunks,
)
from infra.errors.exceptions import Terminal, WrongUse
from infra.settings import Settings
from tasks.backfill.backfill_plan import BackfillPlan
from tasks.backfill.chunk_map import ChunkCounts

FILES = BackfillRequest(["x.csv"])
STREAM = BackfillRequest(stream="s")
ARCHIVE = BackfillRequest(archive=True)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (BackfillRequest(), "name one of them"),
        (replace(FILES, stream="s"), "name one of them"),
        (replace(FILES, archive=True), "name one of them"),
        (replace(STREAM, archive=True), "name one of them"),
        (replace(FILES, since="2026-01-01"), "since and until apply only to a stream or the archive"),
        (replace(FILES, until="2026-01-01"), "since and until apply only to a stream or the archive"),
        (replace(FILES, rate=0), "rate: expected more than 0 events/s, found 0"),
        (replace(FILES, rate=-0.5), "rate: expected more than 0 events/s, found -0.5"),
        (replace(FILES, parallel=0), "parallel: expected 1 or more, found 0"),
        (replace(FILES, without=["x"]), "without applies only to columns of the archive"),
        (replace(STREAM, without=["x"]), "without applies only to columns of the archive"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(request_: BackfillRequest, message: str) -> None:
    with pytest.raises(WrongUse, match=message):
        check_request(request_)


@pytest.mark.parametrize(
    "request_",
    [
        FILES,
        replace(FILES, rate=0.1, parallel=1),
        replace(STREAM, since="1-0", until="2-0"),
        replace(ARCHIVE, since="2026-01-01", without=["x"]),
    ],
)
def test_parameters_that_go_together_are_accepted(request_: BackfillRequest) -> None:
    check_request(request_)


def plan(expired: int = 0, new: int = 0) -> BackfillPlan:
    horizon = datetime(2026, 11, 1, tzinfo=UTC)
    return BackfillPlan(100, 80, expired, horizon, ChunkCounts(0, 0, new), None, None)


@pytest.mark.parametrize(("expired", "way", "refused"), [
    (0, "fail", False), (1, "fail", True), (1, "skip", False), (1, "load", False),
])  # fmt: skip
def test_expired_rows_need_a_decision(expired: int, way: ExpiredRows, refused: bool) -> None:
    if not refused:
        check_expired(plan(expired), way)
        return
    with pytest.raises(
        Terminal, match=r"1 of 80 rows .*2026-11-01; nothing was loaded: .*--expired skip.*--expired load"
    ):
        check_expired(plan(expired), way)


@pytest.mark.parametrize(("new", "yes", "asks"), [(5, False, False), (6, False, True), (6, True, False)])
def test_more_new_chunks_than_the_setting_need_consent(new: int, yes: bool, asks: bool) -> None:
    question = too_many_chunks(plan(new=new), Settings(max_new_chunks=5), yes)
    assert (question is not None) == asks
    if question:
        assert "creates 6 new chunks, more than SPILLWAY_MAX_NEW_CHUNKS (5)" in question
