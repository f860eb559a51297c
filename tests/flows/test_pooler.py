"""Behind a real PgBouncer, whose clients take turns in the same sessions."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
import redis
from psycopg.conninfo import conninfo_to_dict

from infra.connections import session
from infra.connections.clients import Clients
from infra.connections.session import open_session
from infra.settings import Settings, settings
from tests.support.ports import free_port
from tests.support.programs import BIN
from tests.support.servers import Servers
from tests.support.waiting import wait_until

# What our settings would be seen in. Those of PL/pgSQL appear when a session first uses it.
_SETTINGS = """
    SELECT name, setting FROM pg_settings WHERE name NOT LIKE 'transaction_%' AND name NOT LIKE 'plpgsql.%'"""


@pytest.fixture(params=["transaction", "session"])
def pooled_url(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path) -> Iterator[str]:
    """The URL of the test database behind a pooler in that mode."""
    pgbouncer = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if pgbouncer is None:
        pytest.skip("there is no pgbouncer")
    found = conninfo_to_dict(servers.settings.database)
    port, config = free_port(), tmp_path / "pgbouncer.ini"
    server = " ".join(f"{name}={found[name]}" for name in ("host", "port", "user", "password") if name in found)
    config.write_text(
        f"[databases]\n* = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n"
        f"pool_mode = {request.param}\ndefault_pool_size = 3\nunix_socket_dir =\n"
    )
    config.chmod(0o644)
    for folder in tmp_path.parents:
        if folder.name.startswith("pytest"):
            folder.chmod(0o755)
    tmp_path.chmod(0o755)
    user = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to run as root
    with subprocess.Popen([pgbouncer, "-q", *user, str(config)], stderr=subprocess.DEVNULL) as pooler:
        url = f"postgresql://anybody@127.0.0.1:{port}/{found['dbname']}"
        try:
            _wait_for(url)
            yield url
        finally:
            pooler.terminate()


def _wait_for(url: str) -> None:
    def answers() -> bool:
        with suppress(psycopg.OperationalError):
            psycopg.connect(url, connect_timeout=60).close()
            return True
        return False

    wait_until(answers)


def test_drains_backfills_maintenance_and_reconciliation_work_behind_a_pooler_and_leave_no_setting_behind(
    pooled_url: str,
    env: dict[str, str],
    prefect_server: str,
    redis_client: redis.Redis,
    database: psycopg.Connection,
    tmp_path: Path,
) -> None:
    environment = env | {"SPILLWAY_DATABASE_URL": pooled_url}
    before = _settings(pooled_url)
    for batch in range(2):  # the second one meets sessions that the first one has used
        for number in range(100):
            fields = {"event_id": f"00000000-0000-0000-0000-{number + 50 * batch:012d}", "time": "2026-01-01T00:00:00Z"}
            redis_client.xadd("pooled", fields | {"event_type": "Zoë", "user_id": "u"})
        _run(environment, "drain", "--stream", "pooled")
    file = tmp_path / "more.csv"
    rows = (f"2026-01-02T00:00:00Z,00000000-0000-0000-0000-{number:012d},Zoë,u\n" for number in range(200, 300))
    file.write_text("time,event_id,event_type,user_id\n" + "".join(rows))
    for _ in range(2):
        _run(environment, "backfill", str(file))
    _run(environment, "maintain")
    _run(environment, "reconcile", "--deep", "--stream", "pooled")
    rows = database.execute("SELECT count(*), count(DISTINCT event_id), min(event_type), max(event_type) FROM events")
    assert rows.fetchone() == (250, 250, "Zoë", "Zoë")
    assert _settings(pooled_url) == before


def test_timeouts_and_the_name_hold_in_our_transactions_and_for_no_other_client(pooled_url: str) -> None:
    before = _settings(pooled_url)
    asked = "SELECT current_setting('application_name'), current_setting('statement_timeout')"
    with (
        closing(open_session(pooled_url, connect_timeout=60, application_name="ours", statement_timeout=120)) as ours,
        closing(open_session(pooled_url, connect_timeout=60, application_name="ours", statement_timeout=0.5)) as hasty,
    ):
        for _ in range(4):  # in one session of the pool after the other, in transaction mode
            assert ours.execute(asked).fetchone() == ("ours", "2min")
            with pytest.raises(psycopg.errors.QueryCanceled):
                hasty.execute("SELECT pg_sleep(3600)")
    assert _settings(pooled_url) == before


def test_a_stopped_run_cancels_its_own_statement_and_no_other(
    pooled_url: str, configure: Callable[..., Settings], database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pooler passes the request on to the session in which the statement runs."""
    for name in ("_CANCEL_SECONDS", "_LAST_SECONDS"):
        monkeypatch.setattr(session, name, 240)  # a busy server is not given up
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(3600)' AND state = 'active'"
    configure(database_url=pooled_url, statement_timeout=3600)
    with Clients(settings()) as ours, Clients(settings()) as theirs, ThreadPoolExecutor(2) as pool:
        for clients in (ours, theirs):
            pool.submit(_sleep, clients)
        wait_until(lambda: database.execute(asleep).fetchone() == (2,))
        for left, clients in ((1, ours), (0, theirs)):
            clients.cancel_statements()
            wait_until(lambda left=left: database.execute(asleep).fetchone() == (left,))


def _sleep(clients: Clients) -> None:
    with suppress(psycopg.errors.QueryCanceled), clients.postgres() as connection:
        connection.execute("SELECT pg_sleep(3600)")


def _run(environment: dict[str, str], *command: str) -> None:
    done = subprocess.run(
        [BIN / "spillway", *command], env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _settings(url: str) -> set[tuple[str, str]]:
    """As each of the pool's sessions has them: three clients at once have all of them."""
    connections = [psycopg.connect(url, prepare_threshold=None) for _ in range(3)]
    found = {row for connection in connections for row in connection.execute(_SETTINGS).fetchall()}
    for connection in connections:
        connection.close()
    return found
