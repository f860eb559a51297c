"""A stream that vanishes for a moment and returns complete: nothing may be recorded as lost."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from infra.servers.process import ProcessEngine
from tests.faults.campaign.fault import Fault, any_point
from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.testbed import FaultTestbed
from tests.support.pause_points import Point
from tests.support.processes import Drain

_OTHER_DATABASE = 15


class Vanished(Fault):
    """The common part: one of the streams, or both, for up to 1.2 s at any moment of the drain."""

    lasts = (0, 1.2)

    def __init__(self, testbed: FaultTestbed, rng: random.Random) -> None:
        super().__init__(testbed, rng)
        self._streams: list[str] = []

    def prepare(self, series: FaultSeries) -> None:
        self._streams = self.rng.sample(series.streams, self.rng.randint(1, len(series.streams)))

    def moment(self) -> Point | float:
        # Most often between two pages: the reader must not take an empty reply for a deletion.
        return any_point(self.rng, ["before read", "after read"]) if self.rng.random() < 0.5 else super().moment()


class Renamed(Vanished):
    """RENAME and back."""

    def inject(self, drains: Sequence[Drain]) -> None:
        with self.testbed.redis_client() as client:
            for stream in self._streams:
                client.rename(stream, f"{stream}.away")

    def heal(self, drains: Sequence[Drain]) -> None:
        self.clean()

    def clean(self) -> None:
        with self.testbed.redis_client() as client:
            for stream in self._streams:
                if client.exists(f"{stream}.away"):
                    client.rename(f"{stream}.away", stream)


class DumpedAndRestored(Vanished):
    """DUMP and DEL, then RESTORE."""

    def __init__(self, testbed: FaultTestbed, rng: random.Random) -> None:
        super().__init__(testbed, rng)
        self._copies: dict[str, bytes] = {}

    def inject(self, drains: Sequence[Drain]) -> None:
        with self.testbed.redis_client() as client:
            for stream in self._streams:
                self._copies[stream] = client.dump(stream)
                client.delete(stream)

    def heal(self, drains: Sequence[Drain]) -> None:
        self.clean()

    def clean(self) -> None:
        with self.testbed.redis_client() as client:
            for stream, copy in self._copies.items():
                client.restore(stream, 0, copy, replace=True)
        self._copies.clear()


class Swapped(Vanished):
    """SWAPDB with an empty database and back."""

    def __init__(self, testbed: FaultTestbed, rng: random.Random) -> None:
        super().__init__(testbed, rng)
        self._swapped = False

    def inject(self, drains: Sequence[Drain]) -> None:
        self._swap()
        self._swapped = True

    def heal(self, drains: Sequence[Drain]) -> None:
        self.clean()

    def clean(self) -> None:
        if self._swapped:
            self._swap()
            self._swapped = False

    def _swap(self) -> None:
        with self.testbed.redis_client() as client:
            client.swapdb(0, _OTHER_DATABASE)


class EmptyVolume(Vanished):
    """Redis is killed, starts on an empty volume, and later on its own volume again."""

    lasts = (0.2, 1.5)

    def __init__(self, testbed: FaultTestbed, rng: random.Random) -> None:
        super().__init__(testbed, rng)
        self._aside: Path | None = None

    @classmethod
    def impossible(cls, testbed: FaultTestbed) -> str | None:
        return None if isinstance(testbed.engine, ProcessEngine) else "Redis's data folder cannot be exchanged here"

    def inject(self, drains: Sequence[Drain]) -> None:
        self.testbed.stop("redis", "kill")
        self._aside = self._data().with_name("data-aside")
        self._data().rename(self._aside)
        self.testbed.start("redis")

    def heal(self, drains: Sequence[Drain]) -> None:
        self.clean()

    def clean(self) -> None:
        if self._aside is None:
            return
        self.testbed.stop("redis", "kill")
        shutil.rmtree(self._data(), ignore_errors=True)
        self._aside.rename(self._data())
        self._aside = None
        self.testbed.start("redis")

    def _data(self) -> Path:
        engine = self.testbed.engine
        assert isinstance(engine, ProcessEngine)  # `impossible` has checked it
        return engine.host.outside(engine.server("redis").data)
