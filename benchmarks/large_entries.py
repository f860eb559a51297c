"""Peak memory of `spillway drain` and the largest output buffer of Redis, for entries that suddenly become large and
for huge ones: python -m benchmarks.large_entries

Starts its own servers. The peak of the drain is the operating system's. The output buffer is the largest that CLIENT
LIST showed in between; since Redis answers nothing while it builds a reply, the growth of its memory is shown as well:
it includes a reply that was built and thrown away, and what a script measured.
"""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import psycopg
import redis
import typer

from infra.connections.clients import redis_client
from infra.errors.exceptions import Terminal
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings
from tasks.streams.limited_reply import Command, execute_limited
from tests.support.tables import empty_tables

MB = 1_000_000
SHAPES = {
    "5,000 small entries, then 250 of 4 MB": [100] * 5_000 + [4 * MB] * 250,
    "10 entries of 60 MB": [60 * MB] * 10,
}
_POLL_SECONDS = 0.005
_PAGES = 300


@dataclass
class RedisWatch:
    """Watches a Redis in a thread of its own. Bytes."""

    url: str
    largest_buffer: int = 0
    largest_growth: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> RedisWatch:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        with redis.Redis.from_url(self.url, socket_timeout=60) as client:
            before = client.info("memory")["used_memory"]
            while not self._stop.is_set():
                buffers = [int(one["omem"]) for one in client.client_list()]
                self.largest_buffer = max(self.largest_buffer, *buffers)
                time.sleep(_POLL_SECONDS)
            self.largest_growth = client.info("memory")["used_memory_peak"] - before


def entries(sizes: list[int]) -> Iterator[dict[str, str]]:
    """Events with a text of these sizes among their properties, which does not compress well."""
    source = random.Random(1)  # noqa: S311
    for number, size in enumerate(sizes):
        text = base64.b64encode(source.randbytes(size * 3 // 4)).decode()
        yield {
            "event_id": f"0b5a7c1e-3c1e-4a9a-9b1e-{number:012}",
            "event_type": "upload",
            "user_id": f"user-{number % 100}",
            "time": f"2026-11-01T10:{number // 60 % 60:02}:{number % 60:02}Z",
            "properties": json.dumps({"text": text}),
        }


def measure(settings: Settings, sizes: list[int]) -> tuple[int, RedisWatch]:
    """Drain entries of these sizes. Returns the peak of the drain in MB, and what Redis needed."""
    with redis.Redis.from_url(settings.redis) as client:
        for entry in entries(sizes):
            client.xadd("events-large", entry)
    env = os.environ | {"SPILLWAY_REDIS_URL": settings.redis, "SPILLWAY_DATABASE_URL": settings.database}
    command = [str(Path(sys.executable).parent / "spillway"), "drain", "--stream", "events-large", "--json"]
    with RedisWatch(settings.redis) as watch:
        drain = subprocess.Popen(command, env=env, stdout=subprocess.PIPE)
        assert drain.stdout is not None
        said = drain.stdout.read()
        _, status, usage = os.wait4(drain.pid, 0)
        drain.returncode = os.waitstatus_to_exitcode(status)
    with psycopg.connect(settings.database, autocommit=True) as connection:
        query = "SELECT count(*) FROM events"
        row = connection.execute(query).fetchone()
        if drain.returncode or row is None or row[0] != len(sizes):
            raise Terminal(f"the drain ended with {drain.returncode} and {row} rows of {len(sizes)}: {said.decode()}")
        empty_tables(connection)
    with redis.Redis.from_url(settings.redis) as client:
        client.flushdb()
    return round(usage.ru_maxrss * 1024 / MB), watch


def page_costs(settings: Settings) -> Iterator[str]:
    """What the limit costs pages of small entries: the client's processor time, without it and with it."""
    with redis_client(settings) as client:
        for size, count in ((100, 500), (2_000, 250)):
            for entry in entries([size] * count):
                client.xadd("events-small", entry)
            command = ("XRANGE", "events-small", "-", "+", "COUNT", count)
            reads = {"without": partial(client.execute_command, *command), "with": partial(_limited, client, command)}
            took: dict[str, list[float]] = {name: [] for name in reads}
            for _ in range(_PAGES):
                for name, read in reads.items():
                    began = time.process_time()
                    read()
                    took[name].append((time.process_time() - began) * 1e6)
            cost = {name: median(times) for name, times in took.items()}
            yield f"{count} entries of {size} bytes: {cost['without']:.0f} us without a limit, {cost['with']:.0f} with"
            client.delete("events-small")


def _limited(client: redis.Redis, command: Command) -> object:
    return execute_limited(client, [command])[0]


def main(engine: str | None = None, only: str = "") -> None:
    """Print the figures of each shape whose name contains `only`, and what the limit costs pages of small entries."""
    with throwaway_servers("bench", engine) as (settings, used):
        for line in page_costs(settings):
            print(f"{line} (client's processor time per page; {used.name})")
    for name, sizes in SHAPES.items():
        if only not in name:
            continue
        with throwaway_servers("bench", engine) as (settings, used):
            peak, watch = measure(settings, sizes)
        buffer, growth = watch.largest_buffer / MB, watch.largest_growth / MB
        print(
            f"{name} ({used.name}): drain {peak} MB, Redis's largest output buffer {buffer:.0f} MB,"
            f" its memory grew by {growth:.0f} MB"
        )


if __name__ == "__main__":
    typer.run(main)
