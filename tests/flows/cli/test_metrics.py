"""`spillway metrics`, as node_exporter, Prometheus and a person read it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import redis

from flows.plain.drain import drain
from infra.producers.send import send
from infra.servers.process import ProcessEngine
from infra.settings import Settings
from tasks.metrics import collector
from tests.support.command_line import RunSpillway
from tests.support.exporter import listening
from tests.support.metrics import labels, openmetrics_samples, promtool, samples
from tests.support.ports import free_port
from tests.support.programs import BIN
from tests.support.redis_server import redis_port
from tests.support.servers import Servers
from tests.support.serving import serving
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

# The user's limits. The exporter has its own, which end before Prometheus gives up a scrape, after 10 s.
PATIENT = {"SPILLWAY_CONNECT_TIMEOUT": "600", "SPILLWAY_REDIS_TIMEOUT": "3600", "SPILLWAY_STATEMENT_TIMEOUT": "3600"}
_OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
def loaded(redis_client: redis.Redis, database: psycopg.Connection, stream: str) -> str:
    """A stream with rows, an entry in quarantine and a lag."""
    send(redis_client, stream, [event(1), event(2), event(3, time="soon")])
    drain(stream)
    send(redis_client, stream, [event(4)])
    return stream


def scrape(port: int, accept: str = "text/plain") -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=240) as reply:
        return str(reply.read().decode())


def test_a_textfile_is_replaced_as_a_whole_and_node_exporter_may_read_it(
    command_line: RunSpillway, loaded: str, tmp_path: Path
) -> None:
    path = tmp_path / "spillway.prom"
    path.write_text("old")
    before = path.stat().st_ino
    mask = os.umask(0o077)
    try:
        assert command_line("metrics", "--textfile", str(path)) == (0, "", "")
    finally:
        os.umask(mask)
    assert path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]
    found = samples(path.read_text())
    assert found["spillway_stream_lag_entries"] == {labels(stream=loaded): 1}
    assert found["spillway_quarantine_waiting"] == {labels(stream=loaded): 1}


def test_a_folder_that_does_not_exist_is_named_and_nothing_is_written(
    command_line: RunSpillway, loaded: str, tmp_path: Path
) -> None:
    code, out, err = command_line("metrics", "--textfile", str(tmp_path / "absent" / "a.prom"))
    assert (code, out) == (1, "")
    assert "error: metrics:" in err
    assert "No such file or directory; the file was not changed" in err


def test_promtool_finds_no_fault_in_the_text(command_line: RunSpillway, loaded: str) -> None:
    code, out, _ = command_line("metrics")
    assert code == 0
    assert promtool("check", "metrics", stdin=out) == ""


def test_wrong_options_are_refused(command_line: RunSpillway, env: dict[str, str], tmp_path: Path) -> None:
    for wrong in ("0", "70000", "http", "127.0.0.1:", "1.2.3.4:x"):
        code, _, err = command_line("metrics", "--listen", wrong)
        assert (code, "expected [ADDR:]PORT such as 9464" in err) == (2, True)
    code, _, err = command_line("metrics", "--listen", "9464", "--textfile", str(tmp_path / "a"))
    assert (code, "found both" in err) == (2, True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = command_line("metrics", "--listen", str(taken.getsockname()[1]))
    assert (code, "Address already in use; nothing was started" in err) == (1, True)


def test_it_answers_in_both_formats_until_it_is_terminated(env: dict[str, str], loaded: str) -> None:
    with listening(env) as (process, port):
        as_text, as_openmetrics = samples(scrape(port)), openmetrics_samples(scrape(port, _OPENMETRICS))
        assert set(as_text["spillway_up"].values()) == {1}
        assert as_openmetrics.keys() == as_text.keys()
        assert as_openmetrics["spillway_events_total"] == as_text["spillway_events_total"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=240)
        assert (process.returncode, out, err) == (0, "ended\n", "")


def test_a_server_that_comes_and_goes_changes_its_own_metrics_only(
    env: dict[str, str], loaded: str, configure: Callable[..., Settings]
) -> None:
    """Refused connections, and servers that accept and never answer."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        quiet = silent.getsockname()[1]
        away = {
            "SPILLWAY_REDIS_URL": [f"redis://127.0.0.1:{free_port()}/0", f"redis://:Kq7xW9z@127.0.0.1:{quiet}/0"],
            "SPILLWAY_DATABASE_URL": [
                f"postgresql://a:Kq7xW9z@127.0.0.1:{free_port()}/a", f"postgresql://a:Kq7xW9z@127.0.0.1:{quiet}/a",
            ],
        }  # fmt: skip
        for variable, urls in away.items():
            for url in urls:
                with listening({**env, **PATIENT, variable: url}) as (process, port):
                    found = samples(scrape(port))
                    redis_up = variable != "SPILLWAY_REDIS_URL"
                    expected = {labels(server="postgresql"): int(not redis_up), labels(server="redis"): int(redis_up)}
                    if not redis_up:
                        expected[labels(server="chunks")] = 1
                    assert found["spillway_up"] == expected
                    assert ("spillway_events_total" in found) == (not redis_up)
                    assert "spillway_build_info" in found
                    scrape(port)
                    process.send_signal(signal.SIGTERM)
                    _, err = process.communicate(timeout=240)
                    assert len(err.splitlines()) == 1, "a fault is logged when it changes"
                    assert "Kq7xW9z" not in err


def test_the_limits_of_the_exporter_end_before_prometheus_gives_up_a_scrape() -> None:
    """Of PostgreSQL, then of Redis."""
    assert collector._CHUNKS_SECONDS + collector._LIMITS_SECONDS["redis_timeout"] < 10
    assert collector._LEDGER_SECONDS <= collector._CHUNKS_SECONDS


def send_signal(pids: list[int], number: signal.Signals) -> None:
    """To each of the processes that still exist."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def test_servers_that_hang_are_given_up_by_the_limits_of_the_exporter(
    env: dict[str, str], loaded: str, database: psycopg.Connection, servers: Servers, tmp_path: Path
) -> None:
    """The connections are there, and no answer comes, as if the disk hung: of PostgreSQL, then of both servers."""
    if not isinstance(servers.engine, ProcessEngine):
        pytest.skip("the server's processes are not of this machine")
    with redis_port(tmp_path) as of_redis, redis.Redis(port=of_redis) as client:
        hung = [client.info("server")["process_id"]]
        with listening({**env, **PATIENT, "SPILLWAY_REDIS_URL": f"redis://127.0.0.1:{of_redis}/0"}) as (_, port):
            try:
                for up in (1, 0):
                    wait_until(lambda: set(samples(scrape(port))["spillway_up"].values()) == {1})
                    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'spillway metrics'"
                    hung += [pid for (pid,) in database.execute(query).fetchall()]
                    send_signal(hung[up:], signal.SIGSTOP)
                    found = samples(scrape(port))["spillway_up"]
                    assert found == {labels(server="postgresql"): 0, labels(server="redis"): up}
                    send_signal(hung, signal.SIGCONT)
                    del hung[1:]
            finally:
                send_signal(hung, signal.SIGCONT)


def test_without_listening_a_server_that_fails_makes_the_command_fail(
    command_line: RunSpillway, loaded: str, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    configure(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    path = tmp_path / "a.prom"
    code, out, err = command_line("metrics", "--textfile", str(path))
    assert (code, out) == (1, "")
    assert "warning: metrics: read from redis: Redis at 127.0.0.1:" in err
    assert samples(path.read_text())["spillway_up"][labels(server="redis")] == 0


def test_requests_at_the_same_time_are_all_answered(env: dict[str, str], loaded: str) -> None:
    with listening(env) as (_, port):
        found: list[float] = []
        ask = [
            threading.Thread(
                target=lambda: found.append(samples(scrape(port))["spillway_up"][labels(server="postgresql")])
            )
            for _ in range(12)
        ]
        for one in ask:
            one.start()
        for one in ask:
            one.join()
        assert found == [1] * 12


def test_it_needs_no_prefect(env: dict[str, str], loaded: str) -> None:
    """Its import alone would take seconds of processor time, at each run of a textfile's timer."""
    code = (
        "import json, sys; sys.argv = ['spillway', 'metrics']\nfrom flows.cli.main import app\n"
        "try: app()\nexcept SystemExit: pass\n"
        "print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules} & {'prefect', 'pandas', 'pyarrow'})))"
    )
    done = subprocess.run([BIN / "python", "-c", code], env=env, capture_output=True, text=True, timeout=240)
    assert json.loads(done.stdout.splitlines()[-1]) == [], done.stderr


@pytest.mark.usefixtures("nothing_deployed")
def test_serve_exports_metrics_of_its_drains(
    prefect_server: str, env: dict[str, str], loaded: str, tmp_path: Path
) -> None:
    port = free_port()
    quick = {**env, "SPILLWAY_SCHEDULED_STREAMS": loaded, "SPILLWAY_METRICS_LISTEN": str(port)}
    success = labels(flow="drain")
    with serving(quick, tmp_path / "log", "--every", "1s") as served:
        assert samples(scrape(port))["spillway_drain_interval_seconds"] == {labels(): 1}
        began = time.time()

        def last_success() -> float:
            return samples(scrape(port))["spillway_last_success_timestamp_seconds"].get(success, 0)

        # A tick that finds nothing is a success too, so that this grows.
        wait_until(lambda: last_success() >= began, shown=served.log.read_text)
        found = samples(scrape(port))
        assert found["spillway_stream_lag_entries"][labels(stream=loaded)] == 0
        assert found["spillway_events_total"][labels(stream=loaded, table="public.events", result="inserted")] == 3
        assert served.end() == 0
