"""A run that archives and drops can be killed at any step: no row is lost, and the next run completes it.

`SPILLWAY_TEST_KILLS` is the number of kills, 16 by default: once at each kind of step, then at the steps of each day,
then at random moments.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta
from itertools import count
from pathlib import Path

import psycopg
import pytest

from infra.settings import PROJECT_ROOT
from tasks.archive.archive_root import ArchiveRoot, open_root
from tasks.archive.manifest import Manifest, archive_names, load_manifest
from tasks.archive.verify import BadArchive, unlisted_files, verify
from tasks.archive.write_chunk import archive_chunk
from tasks.base.progress import ProgressEvent, StepReached, subscribe
from tests.faults.archiving import archive_and_drop_all
from tests.support.archives import (
    THURSDAY,
    as_rows,
    chunks,
    compress,
    compressible,
    insert_events,
    plain_events,
    rows_by_pandas,
    rows_in_order,
)
from tests.support.default_table import default_table
from tests.support.oracle import Key, Row, table_rows
from tests.support.servers import Servers

KILLS = int(os.environ.get("SPILLWAY_TEST_KILLS", "16"))
ROWS = 700


class Round:
    """One kill: a chunk with its own range of ids, its own archive, and the rows that must be in one of them."""

    def __init__(self, database: psycopg.Connection, folder: Path, number: int) -> None:
        self._database = database
        self._next = number * 10_000  # the next event's number
        self.root = open_root(str(folder))
        self.rows: dict[Key, Row] = {}
        self._add(ROWS, timedelta(days=7))

    def _add(self, count: int, span: timedelta) -> None:
        events = plain_events(count, THURSDAY, self._next, span)
        self._next += count
        insert_events(self._database, events)
        self.rows |= as_rows(events)

    def late(self) -> None:
        """Rows that arrive between archive and drop."""
        self._add(30, timedelta(days=3))

    def archive_and_go_on(self) -> None:
        """Leave the state of a run that ended between archiving and dropping, and add rows."""
        archive_chunk(self._database, default_table(self._database), chunks(self._database)[0], self.root)
        self.late()

    def archived(self) -> list[Manifest]:
        return [manifest for name in archive_names(self.root) if (manifest := _verified(self.root, name))]

    def nothing_is_lost(self) -> None:
        """Every row is unchanged in the table or in an archive that verifies, according to pandas."""
        found = table_rows(self._database)  # the table first: if a drop commits now, its rows are in the archive
        for manifest in self.archived():
            found |= as_rows(rows_by_pandas(self.root.base, [manifest]))
        assert found == self.rows

    def complete(self) -> None:
        """After an undisturbed run every row is in one archive, once; none is in the table, no other file is left."""
        archive_and_drop_all(self._database, self.root)
        assert chunks(self._database) == []
        assert rows_in_order(self._database) == []
        manifests = self.archived()
        assert as_rows(rows_by_pandas(self.root.base, manifests)) == self.rows
        assert len(manifests) == len(archive_names(self.root))
        assert unlisted_files(self.root, manifests) == []


def _verified(root: ArchiveRoot, name: str) -> Manifest | None:
    try:
        manifest = load_manifest(root, name)
        verify(root, manifest)
    except BadArchive:
        return None
    return manifest


@pytest.mark.timeout(1200)
def test_a_row_is_in_the_table_or_in_a_verified_archive_whenever_the_run_is_killed(
    servers: Servers, database: psycopg.Connection, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    steps, seconds = _undisturbed(database, tmp_path / "undisturbed")
    order = _order(steps, chance)
    killed_at: list[str] = []
    for number in count(1):
        kills = len(killed_at)
        if kills == KILLS:
            break
        one = Round(database, tmp_path / f"{number}", number)
        # The last fifth is killed at random moments.
        step = order[kills] if kills < len(order) and kills < KILLS * 4 // 5 else None
        if number % 2 or step == "removed":
            one.archive_and_go_on()
        last = _run(servers, one, step, chance.uniform(0, seconds))
        if last:
            killed_at.append(last)
        else:  # it had already ended: it does not count, and the next kill comes earlier
            seconds *= 0.8
        one.nothing_is_lost()
        if number % 3 == 0:
            one.late()
            one.nothing_is_lost()
        one.complete()
    print(f"{len(killed_at)} kills, at: {killed_at}")


@pytest.mark.timeout(300)
def test_the_same_for_a_compressed_chunk(servers: Servers, database: psycopg.Connection, tmp_path: Path) -> None:
    if servers.edition != "Community":
        pytest.skip("compression needs the Community edition")
    with compressible(database):
        for number, step in enumerate(
            ("counted", "moved 2024-01-06", "archived", "compared", "dropping", "dropped"), 1
        ):
            one = Round(database, tmp_path / f"{number}", number)
            compress(database, chunks(database)[0])
            one.late()
            _run(servers, one, step)
            one.nothing_is_lost()
            one.complete()


def _undisturbed(database: psycopg.Connection, folder: Path) -> tuple[list[str], float]:
    """The names of the steps of an undisturbed run, in order, and its duration after the first step."""
    steps: dict[str, float] = {}

    def note(progress: ProgressEvent) -> None:
        if isinstance(progress, StepReached):
            steps.setdefault(progress.step, time.monotonic())

    one = Round(database, folder, 0)
    one.archive_and_go_on()
    with subscribe(note):
        one.complete()
    return list(steps), steps["dropped"] - steps["counted"]


def _order(steps: list[str], chance: random.Random) -> list[str]:
    """One step of each kind first, then those of the other days."""
    kinds: dict[str, str] = {}
    for step in chance.sample(steps, len(steps)):
        kinds.setdefault(step.split()[0] if step != "manifest written" else step, step)
    first = [*sorted(kinds.values(), key=steps.index)]
    return [*first, *(step for step in steps if step not in first)]


def _run(servers: Servers, one: Round, step: str | None, seconds: float = 0.0) -> str:
    """Run until it kills itself at `step`, or is killed some time after its start. Returns the last step that it
    printed; empty if it ended before."""
    command = [
        sys.executable,
        "-m",
        "tests.faults.archiving",
        servers.settings.database,
        one.root.base,
        step or "never",
    ]
    run = subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    output = run.stdout.readline()
    if step is None:
        time.sleep(seconds)
        run.kill()
    output += run.stdout.read()
    last = output.splitlines()[-1]
    if step is None:
        return f"{last}…" if run.wait(240) else ""
    assert (run.wait(240), last) == (-signal.SIGKILL, step)
    return last
