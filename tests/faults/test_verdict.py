"""The campaign detects and counts each kind of damage: otherwise it would prove nothing."""

from __future__ import annotations

import psycopg
import pytest
import redis

from tests.faults.campaign.produce import Produced, endless
from tests.faults.campaign.texts import wrong_text
from tests.faults.campaign.verdict import Verdict, judge
from tests.support.processes import Drain

PLACES = ("127.0.0.1:6379", "127.0.0.1:5432")
GOOD = "Transient: load s 1-0..2-0: PostgreSQL at 127.0.0.1:5432: deadlock detected; drain again"


@pytest.mark.usefixtures("prefect_server")
def test_lost_doubled_and_changed_rows_are_counted(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    produced = Produced(stream)
    produced.send(redis_client, next(endless(1, 1_000)))
    assert "error" not in Drain(stream, env).finished()
    assert judge(database, [produced]) == Verdict()

    def found_after(*statements: str) -> Verdict:
        with database.transaction(force_rollback=True):
            for statement in statements:
                database.execute(statement)
            return judge(database, [produced])

    one = "(SELECT event_id FROM events ORDER BY event_id LIMIT 1)"
    assert found_after(f"DELETE FROM events WHERE event_id = {one}") == Verdict(lost=1)
    assert found_after(f"UPDATE events SET user_id = user_id || '!' WHERE event_id = {one}") == Verdict(different=1)
    assert found_after(f"UPDATE events SET event_id = gen_random_uuid() WHERE event_id = {one}") == Verdict(1, 0, 1)
    kept = "(SELECT entry_id FROM spillway.quarantine LIMIT 1)"
    assert found_after(f"DELETE FROM spillway.quarantine WHERE entry_id = {kept}") == Verdict(lost=1)
    assert found_after(f"UPDATE spillway.quarantine SET fields = '{{}}' WHERE entry_id = {kept}") == Verdict(
        different=1
    )
    twice = found_after("UPDATE spillway.ledger SET read = read + 7, rows = rows + 7, duplicates = duplicates + 7")
    assert twice.doubled == 7 * len(database.execute("SELECT FROM spillway.ledger").fetchall())
    fewer = "read = read - 1, rows = rows - 1, inserted = inserted - 1"
    assert found_after(f"UPDATE spillway.ledger SET {fewer}").unbalanced
    assert found_after("DELETE FROM spillway.ledger").unbalanced
    assert found_after("UPDATE spillway.ledger SET ids = numrange(1, upper(ids)) WHERE lower(ids) = 0").unbalanced
    assert found_after("UPDATE spillway.streams SET lost = 1").unbalanced


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (GOOD, None),
        (GOOD.replace("load s 1-0..2-0", "drain 9 small streams"), None),
        (f"{GOOD}; plan t: Redis at 127.0.0.1:6379: Timeout; see why it is slow", None),
        ("Terminal: preflight: Redis at 127.0.0.1:6379: Connection refused; start it (spillway up)", None),
        (GOOD.replace("; drain again", ""), "it is not «step"),
        (GOOD.replace("load s 1-0..2-0: ", ""), "it is not «step"),
        (GOOD.replace("drain again", "see docs/operations.md"), "it has no next step"),
        (GOOD.replace("drain again", "start it (spillway up)"), "its next step does not fit"),
        (GOOD.replace("5432", "5433"), "there is no PostgreSQL at 127.0.0.1:5433"),
        (GOOD.replace("detected", "\ndetected"), "it has several lines"),
        (GOOD.replace("detected", "analytics_pass"), "it shows a password"),
        ("ConnectError: [Errno 111] Connection refused", "it is not written for people: ConnectError"),
        (f"{GOOD}; plan t: Redis at 127.0.0.1:6379: Timeout", "it is not «step"),
    ],
)
def test_an_error_that_a_person_cannot_act_upon_is_detected(text: str, wrong: str | None) -> None:
    found = wrong_text(text, PLACES)
    assert found is None if wrong is None else found is not None and found.startswith(wrong)
