"""Several faults in a row on the same streams: each starts with what the previous one left."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import psycopg

from infra.producers.broken import Entry
from tests.faults.campaign.produce import Produced, endless
from tests.faults.campaign.testbed import FaultTestbed
from tests.faults.campaign.verdict import Verdict, judge
from tests.support.processes import Drain, Harness

EVENTS = 2_000  # of one fault
_SECOND_STREAM = 0.3  # of the events
# Of a part of a stream that several drains share, at least.
PART_ENTRIES = 200


@dataclass
class FaultSeries:
    """Two streams and everything that was produced into them. `closed`: former streams of the same names, before they
    started over.

    `batch_rows`: the range of sizes of the batches of drains that a fault disturbs. `head_start`: whether the first of
    them comes to its point before the others start. `flows`: what the others are, modules below `flows`; the last one
    is also the drain after the fault.
    """

    batch_rows: ClassVar[tuple[int, int]] = (100, 400)
    head_start: ClassVar[bool] = False
    flows: ClassVar[Sequence[str]] = ("drain",)

    name: str
    seed: int
    produced: list[Produced] = field(init=False)
    closed: list[Produced] = field(default_factory=list)
    _source: Iterator[list[tuple[Entry, bool]]] = field(init=False)

    def __post_init__(self) -> None:
        self.produced = [Produced(f"{self.name}-a"), Produced(f"{self.name}-b")]
        self._source = endless(self.seed, EVENTS)

    @property
    def streams(self) -> list[str]:
        return [one.stream for one in self.produced]

    @property
    def everything_produced(self) -> list[Produced]:
        """The streams, present and former, whose rows the tables must hold."""
        return [*self.closed, *self.produced]

    def produce(self, testbed: FaultTestbed) -> None:
        """Produce the events for one fault."""
        entries = next(self._source)
        part = round(len(entries) * _SECOND_STREAM)
        with testbed.redis_client() as client:
            for one, its in zip(self.produced, (entries[part:], entries[:part]), strict=True):
                one.send(client, its)

    def count_drains(self, rng: random.Random, least: int, most: int) -> tuple[int, int]:
        """How many drains run at once, of the numbers that a fault allows, and how many of them it hits."""
        return rng.randint(least, most), 1

    def start(self, testbed: FaultTestbed, harness: Harness, batch_rows: int = 50_000, **parameters: Any) -> Drain:
        """Start a drain of both streams."""
        return Drain(self.streams, testbed.env | {"SPILLWAY_BATCH_ROWS": str(batch_rows)}, harness, **parameters)

    def check(self, testbed: FaultTestbed) -> list[str]:
        """What Spillway itself finds wrong after the last drain."""
        return []

    def judge(self, connection: psycopg.Connection) -> Verdict:
        """Compare everything with what was produced."""
        return judge(connection, self.everything_produced)
