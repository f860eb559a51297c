"""Two databases drain the same Redis, and both trim: neither may delete what the other has not read."""

from __future__ import annotations

import random
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

import psycopg

from infra.schema.migrate import apply_schema
from tests.faults.campaign.fault import Fault
from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.produce import endless
from tests.faults.campaign.testbed import DELAYS, FaultTestbed, through
from tests.faults.campaign.verdict import judge
from tests.support.processes import Drain, Harness, Outcome

_NAME = "campaign_second"
_MORE_ENTRIES = 1_000
_SECONDS = 60


class TwoDatabases(Fault):
    """A second database drains the same streams, both with SPILLWAY_TRIM_KEEP=0s: both get every event."""

    lasting = True
    slow = True
    ends_series = True  # later faults would find the streams trimmed

    def __init__(self, testbed: FaultTestbed, rng: random.Random) -> None:
        super().__init__(testbed, rng)
        self._url = urlunsplit(urlsplit(testbed.settings.database)._replace(path=f"/{_NAME}"))
        self._wrong: list[str] = []

    def prepare(self, series: FaultSeries) -> None:
        self._leg = series
        with self.testbed.sql() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {_NAME} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {_NAME}")
        apply_schema(self._url)
        self._drain().finished()  # so that each sees the other's consumer group
        series.start(self.testbed, self._harness()).finished()
        with self.testbed.redis_client() as client:
            for one in series.produced:
                one.send(client, next(endless(self.rng.randrange(1 << 32), _MORE_ENTRIES)))
        self.testbed.environment = {**self.testbed.environment, "SPILLWAY_TRIM_KEEP": "0s"}

    def _harness(self) -> Harness:
        return Harness(None, DELAYS, self.testbed.prefect_url, log=self.testbed.log)

    def _drain(self) -> Drain:
        env = self.testbed.env | {"SPILLWAY_DATABASE_URL": through(self._url, self.testbed.postgres_net)}
        return Drain(self._leg.streams, env, self._harness())

    def inject(self, drains: Sequence[Drain]) -> None:
        if self.rng.random() < 0.5:
            outcome = self._drain().outcome(_SECONDS)
            self._wrong += [f"the second database: {outcome.error}"] if outcome.error else []

    def heal(self, drains: Sequence[Drain]) -> None:
        outcome = self._drain().outcome(_SECONDS)
        self._wrong += [f"the second database: {outcome.error}"] if outcome.error else []
        with psycopg.connect(self._url, autocommit=True) as connection:
            verdict = judge(connection, [one.elsewhere() for one in self._leg.produced])
        if not verdict.clean:
            self._wrong.append(f"the second database differs: {verdict}")

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return [*self._wrong, *(f"a drain failed: {outcome.error}" for outcome in outcomes if outcome.error)]

    def clean(self) -> None:
        self.testbed.environment = {k: v for k, v in self.testbed.environment.items() if k != "SPILLWAY_TRIM_KEEP"}
        with self.testbed.sql() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {_NAME} WITH (FORCE)")
