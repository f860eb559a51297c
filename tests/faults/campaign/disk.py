"""A full disk: a tablespace on a small file system in memory, and a file that fills it."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from infra.servers.process import ProcessEngine
from tests.faults.campaign.fault import Fault
from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.testbed import FaultTestbed
from tests.support.processes import Drain

_SIZE_MB = 64
_TABLESPACE = sql.Identifier("campaign_small")


class DiskFull(Fault):
    """The disk of the events table is full, and later has space again."""

    lasts = (0.5, 2)

    def __init__(self, testbed: FaultTestbed, rng: random.Random) -> None:
        super().__init__(testbed, rng)
        self._folder: Path | None = None

    @classmethod
    def impossible(cls, testbed: FaultTestbed) -> str | None:
        if not isinstance(testbed.engine, ProcessEngine):
            return "the server's disk is not of this machine"
        return None if os.geteuid() == 0 else "only root can mount a small disk"

    def prepare(self, series: FaultSeries) -> None:
        engine = self.testbed.engine
        assert isinstance(engine, ProcessEngine)
        inside = engine.folder / "small-disk"
        user = engine.host.user("postgres", "nobody")
        assert user is not None  # as root
        self._folder = engine.host.make_folder(inside, user, 0o700)
        options = f"size={_SIZE_MB}m,mode=700,uid={user.uid},gid={user.gid}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self._folder], check=True)
        with self.testbed.sql() as connection:
            place = sql.Literal(str(inside))
            connection.execute(sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(_TABLESPACE, place))
            connection.execute(sql.SQL("ALTER TABLE events SET TABLESPACE {}").format(_TABLESPACE))

    def inject(self, drains: Sequence[Drain]) -> None:
        assert self._folder is not None
        with contextlib.suppress(OSError), (self._folder / "filler").open("wb", buffering=0) as filler:
            while filler.write(b"\0" * 65536):
                pass

    def heal(self, drains: Sequence[Drain]) -> None:
        assert self._folder is not None
        (self._folder / "filler").unlink(missing_ok=True)

    def clean(self) -> None:
        if self._folder is None or not self._folder.is_mount():
            return
        (self._folder / "filler").unlink(missing_ok=True)
        try:
            with self.testbed.sql() as connection, contextlib.suppress(psycopg.errors.UndefinedObject):
                connection.execute("ALTER TABLE events SET TABLESPACE pg_default")
                self._move_indexes(connection)
                connection.execute(sql.SQL("DROP TABLESPACE {}").format(_TABLESPACE))
        finally:
            # The server may still have dropped files open.
            subprocess.run(["umount", "--lazy", self._folder], check=True)

    @staticmethod
    def _move_indexes(connection: psycopg.Connection) -> None:
        """Move the indexes of the new chunks: they do not follow the table."""
        query = """
            SELECT c.oid::regclass::text FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace
             WHERE spcname = 'campaign_small' AND relkind = 'i'"""
        for (index,) in connection.execute(query).fetchall():
            connection.execute(f"ALTER INDEX {index} SET TABLESPACE pg_default")
