"""The units of infra/systemd, checked by systemd itself; no systemd runs on the machines of these tests."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path

import psycopg
import pytest
import redis

from infra.producers.send import send
from infra.settings import PROJECT_ROOT
from tests.support.oracle import flat_rows, table_rows
from tests.support.programs import BIN, require_command
from tests.support.stand_in_images import cannot
from tests.support.stream_entries import event

FOLDER = PROJECT_ROOT / "infra/systemd"
SERVICES = sorted(path.name for path in FOLDER.glob("*.service"))
TIMERS = sorted(path.name for path in FOLDER.glob("*.timer"))
_INSTALLED = "/opt/spillway/bin"
_MOST_EXPOSURE = 15  # tenths; systemd calls 1.5 OK, and a service without any hardening has 9.6

Analyze = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def analyze(tmp_path: Path) -> Analyze:
    """`systemd-analyze` on a copy of the units in which Spillway is where it is on this machine."""
    if not shutil.which("systemd-analyze"):
        cannot("systemd-analyze is not on this machine; .ci/run installs it")
    units = shutil.copytree(FOLDER, tmp_path / "units")
    for file in units.glob("*.service"):
        file.write_text(file.read_text().replace(_INSTALLED, str(BIN)))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        variables = os.environ | {"SYSTEMD_UNIT_PATH": f"{units}:", "SYSTEMD_LOG_LEVEL": "warning"}
        argv = ["systemd-analyze", *arguments]
        return subprocess.run(argv, env=variables, cwd=units, capture_output=True, text=True)

    return run


def command_of(unit: str) -> list[str]:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(FOLDER / unit)
    return shlex.split(parser["Service"]["ExecStart"])


def test_systemd_finds_no_fault(analyze: Analyze) -> None:
    done = analyze("verify", "--man=no", *(f"./{name}" for name in (*SERVICES, *TIMERS)))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_would_find_a_misspelt_setting(analyze: Analyze, tmp_path: Path) -> None:
    common = tmp_path / "units/spillway-.service.d/production.conf"
    common.write_text(common.read_text().replace("DynamicUser=", "DynamicUsr="))
    assert "DynamicUsr" in analyze("verify", "--man=no", "./spillway-worker.service").stderr


@pytest.mark.parametrize("unit", SERVICES)
def test_each_service_is_confined(analyze: Analyze, unit: str) -> None:
    done = analyze("security", "--offline=true", f"--threshold={_MOST_EXPOSURE}", "--no-pager", f"./{unit}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_threshold_refuses_a_service_without_the_common_part(analyze: Analyze, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "units/spillway-.service.d")
    done = analyze("security", "--offline=true", f"--threshold={_MOST_EXPOSURE}", "./spillway-worker.service")
    assert done.returncode != 0


@pytest.mark.parametrize("unit", SERVICES)
def test_its_command_exists(unit: str) -> None:
    program, *arguments = command_of(unit)
    assert program in {f"{_INSTALLED}/spillway", f"{_INSTALLED}/prefect"}
    require_command([Path(program).name, *arguments])


def test_each_timer_starts_a_service() -> None:
    assert [Path(name).with_suffix(".service").name for name in TIMERS] == [
        f"spillway-{name}.service" for name in ("archive", "drain", "maintain", "reconcile")
    ]
    assert {Path(name).with_suffix(".service").name for name in TIMERS} <= set(SERVICES)


# PR_SET_MDWE, which newer versions of systemd set for MemoryDenyWriteExecute.
_REFUSE_NEW_CODE = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_it_works_if_no_memory_is_writable_and_executable(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str, tmp_path: Path
) -> None:
    """NumPy, Arrow or Matplotlib could need such memory."""
    entries = [event(number) for number in range(100)]
    send(redis_client, stream, entries)
    for arguments in (("drain", "--stream", stream), ("report", "--output", str(tmp_path / "report.html"))):
        argv = [sys.executable, "-c", _REFUSE_NEW_CODE, BIN / "spillway", *arguments]
        done = subprocess.run(argv, env=env | {"PREFECT_API_URL": ""}, capture_output=True, text=True)
        if done.returncode == 77:
            pytest.skip("this kernel cannot refuse such memory; Linux 6.3 can")
        assert done.returncode == 0, done.stderr
    assert table_rows(database) == flat_rows(entries)
