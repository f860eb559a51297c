"""Changes that a user makes: columns, constraints, triggers, settings of the role."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from psycopg import sql

from infra.producers.broken import Entry
from tests.faults.campaign.fault import Fault, any_time
from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.produce import MARK
from tests.faults.campaign.testbed import FaultTestbed
from tests.support.pause_points import Point
from tests.support.processes import Drain, Outcome

_MARKED = 40  # entries that a constraint or trigger concerns, among the 2,000 of a fault


class TableChanged(Fault):
    """The common part: the change is made before the drains start, or during one."""

    lasts = (0, 0.5)
    lasting = True

    def __init__(self, testbed: FaultTestbed, rng: random.Random) -> None:
        super().__init__(testbed, rng)
        self._mark = f"{MARK}{rng.randrange(1 << 32):08x}"

    def moment(self) -> Point | float:
        # Not at a point: ALTER TABLE would wait for the transaction of the paused drain.
        return any_time(self.rng)

    def marked(self, number: int) -> Entry:
        """An entry of this fault only, marked by its type; its key occurs once."""
        moment = datetime.now(UTC).replace(microsecond=number)
        fields = {
            "event_id": str(UUID(int=self.rng.getrandbits(128), version=4)),
            "event_type": self._mark,
            "user_id": f"user-{number}",
            "time": moment.isoformat(),
            "properties": '{"marked": true}',
        }
        return {name.encode(): value.encode() for name, value in fields.items()}

    def execute(self, *statements: str) -> None:
        """Run statements as the owner of the table. `{mark}` is replaced by the type of the marked entries."""
        with self.testbed.sql() as connection:
            for statement in statements:
                connection.execute(sql.SQL(statement).format(mark=sql.Literal(self._mark)))

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return [f"it stopped the drain: {outcome.error}" for outcome in outcomes if outcome.error]


class ColumnsAdded(TableChanged):
    """Optional columns are added while drains run, and dropped later.

    No identity column: PostgreSQL cannot add one to a table with chunks.
    """

    _COLUMNS = (
        "tenant text NOT NULL DEFAULT 'acme'",
        "number bigint NOT NULL DEFAULT 1",
        "place int NOT NULL DEFAULT 7",
        "shown text",
        "loaded timestamptz NOT NULL DEFAULT now()",
    )

    def inject(self, drains: Sequence[Drain]) -> None:
        chosen = self.rng.sample(self._COLUMNS, self.rng.randint(1, len(self._COLUMNS)))
        self.execute(*(f"ALTER TABLE public.events ADD COLUMN {column}" for column in chosen))

    def clean(self) -> None:
        names = [column.split()[0] for column in self._COLUMNS]
        self.execute(*(f"ALTER TABLE public.events DROP COLUMN IF EXISTS {name}" for name in names))


class RowsRejected(TableChanged):
    """A constraint or a trigger rejects some entries: these go to quarantine, and all others are inserted."""

    _RAISE = "CREATE OR REPLACE FUNCTION public.campaign_rejects() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    _RAISE += " IF NEW.event_type = {mark} THEN RAISE EXCEPTION 'not this one' USING ERRCODE = '%s'; END IF;"
    _RAISE += " RETURN NEW; END $$"
    _TRIGGER = "CREATE TRIGGER campaign_rejects %s INSERT ON public.events FOR EACH ROW EXECUTE FUNCTION"
    _TRIGGER += " public.campaign_rejects()"
    _CHECK = "ALTER TABLE public.events ADD CONSTRAINT campaign_rejects CHECK (event_type <> {mark})"

    def prepare(self, series: FaultSeries) -> None:
        if self.rng.random() < 0.5:
            self.execute(self._CHECK)
        else:
            state = self.rng.choice(["P0001", "23514", "23503", "22023", "U0001", "45000"])
            self.execute(self._RAISE % state, self._TRIGGER % self.rng.choice(["BEFORE", "AFTER"]))
        # A small range may hold no other entries; by default the run would then fail after quarantining them.
        self.testbed.environment = {**self.testbed.environment, "SPILLWAY_MAX_BAD_SHARE": "1"}
        with self.testbed.redis_client() as client:
            for one in series.produced:
                one.send(client, [(self.marked(number), True) for number in range(_MARKED)])

    def moment(self) -> Point | float:
        return 0.0

    def inject(self, drains: Sequence[Drain]) -> None:
        pass  # `prepare` has already done it

    def clean(self) -> None:
        self.testbed.environment = {k: v for k, v in self.testbed.environment.items() if k != "SPILLWAY_MAX_BAD_SHARE"}
        self.execute(
            "ALTER TABLE public.events DROP CONSTRAINT IF EXISTS campaign_rejects",
            "DROP TRIGGER IF EXISTS campaign_rejects ON public.events",
            "DROP FUNCTION IF EXISTS public.campaign_rejects",
        )


class RowsChanged(TableChanged):
    """A trigger changes some rows on INSERT: the table holds them as changed."""

    # The rows differ from the stream, so draining the stream again would find conflicts.
    ends_series = True

    def prepare(self, series: FaultSeries) -> None:
        self.execute(
            "CREATE OR REPLACE FUNCTION public.campaign_changes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF NEW.event_type = {mark} THEN NEW.user_id := 'changed'; END IF; RETURN NEW; END $$",
            "CREATE TRIGGER campaign_changes BEFORE INSERT ON public.events FOR EACH ROW EXECUTE FUNCTION"
            " public.campaign_changes()",
        )
        with self.testbed.redis_client() as client:
            for one in series.produced:
                before = set(one.entries)
                one.send(client, [(self.marked(number), False) for number in range(_MARKED)])
                for entry_id in one.entries.keys() - before:
                    one.entries[entry_id] = one.entries[entry_id] | {b"user_id": b"changed"}

    def moment(self) -> Point | float:
        return 0.0

    def inject(self, drains: Sequence[Drain]) -> None:
        pass  # `prepare` has already done it

    def clean(self) -> None:
        self.execute(
            "DROP TRIGGER IF EXISTS campaign_changes ON public.events",
            "DROP FUNCTION IF EXISTS public.campaign_changes",
        )


class SettingsOfTheRole(TableChanged):
    """The role gets unusual settings of encoding, styles, search path, time zone and isolation."""

    _SETTINGS = (
        "client_encoding = 'LATIN1'",
        "DateStyle = 'German, DMY'",
        "IntervalStyle = 'sql_standard'",
        "search_path = campaign_decoy, public",
        "TimeZone = 'Asia/Kathmandu'",
        "default_transaction_isolation = 'repeatable read'",
        "bytea_output = 'escape'",
        "extra_float_digits = 0",
    )

    def prepare(self, series: FaultSeries) -> None:
        self.execute(
            "CREATE SCHEMA IF NOT EXISTS campaign_decoy",
            "CREATE TABLE IF NOT EXISTS campaign_decoy.events (LIKE public.events)",
        )

    def inject(self, drains: Sequence[Drain]) -> None:
        chosen = self.rng.sample(self._SETTINGS, self.rng.randint(1, len(self._SETTINGS)))
        self.execute(*(f"ALTER ROLE CURRENT_USER SET {setting}" for setting in chosen))

    def heal(self, drains: Sequence[Drain]) -> None:
        self.clean()

    def clean(self) -> None:
        self.execute("ALTER ROLE CURRENT_USER RESET ALL", "DROP SCHEMA IF EXISTS campaign_decoy CASCADE")
