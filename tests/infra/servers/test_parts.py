"""The parts of the engines that need no server."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from infra.errors.exceptions import Terminal
from infra.servers.host import Host
from infra.servers.lock import file_lock
from infra.servers.ports import port_holder, require_free_port
from infra.servers.server import child_pids, disk_full_step, failure_line
from tests.support.ports import free_port

POSTGRES_LOG = """\
2026-01-01 00:00:00.000 UTC [1] LOG:  starting PostgreSQL 17.1
2026-01-01 00:00:00.000 UTC [1] FATAL:  could not load library "timescaledb.so"
2026-01-01 00:00:00.000 UTC [1] LOG:  database system is shut down
"""
REDIS_LOG = """\
1:C 01 Jan 2026 00:00:00.000 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo
1:M 01 Jan 2026 00:00:00.000 # Could not create server TCP listening socket 127.0.0.1:80: bind: Permission denied
1:M 01 Jan 2026 00:00:00.000 # Configuration loaded
"""


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (POSTGRES_LOG, 'FATAL:  could not load library "timescaledb.so"'),
        (REDIS_LOG, "bind: Permission denied"),
        ("first\nlast\n\n", "last"),
        ("", "(its log is empty)"),
    ],
)
def test_the_first_error_in_a_log_is_reported_as_the_cause(log: str, line: str) -> None:
    assert failure_line(log).endswith(line)


def test_a_full_disk_has_a_next_step() -> None:
    assert "free some space" in disk_full_step('could not write "postmaster.pid": No space left on device')
    assert disk_full_step("bind: Permission denied") == ""


def test_the_process_that_holds_a_port_is_named() -> None:
    port = free_port()  # that nobody else takes as soon as it is free again
    with socket.create_server(("127.0.0.1", port)):
        assert (port_holder(port) or "").endswith(f"(pid {os.getpid()})")
        with pytest.raises(Terminal, match="set SPILLWAY_REDIS_PORT to a free port"):
            require_free_port("redis", port)
    assert port_holder(port) is None
    require_free_port("redis", port)


def test_paths_in_a_root_folder_are_mapped_to_this_machine(tmp_path: Path) -> None:
    assert Host(tmp_path).outside(Path("/var/lib/x")) == tmp_path / "var/lib/x"
    assert Host().outside(Path("/var/lib/x")) == Path("/var/lib/x")


def test_a_written_file_is_private_and_replaces_a_link(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("untouched")
    (tmp_path / "file").symlink_to(target)
    Host().write(tmp_path / "file", "text", None)
    assert target.read_text() == "untouched"
    assert (tmp_path / "file").read_text() == "text"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_folders_are_traversable_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        made = Host().make_folder(tmp_path / "a/b/c", None, 0o700)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (made, made.parent, made.parent.parent)] == [0o700, 0o755, 0o755]


def test_the_lock_excludes_other_processes_and_is_reentrant(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with file_lock(path, "a test"), file_lock(path, "a test"):
        assert not another_process_gets(path)
    assert another_process_gets(path)


def another_process_gets(path: Path) -> bool:
    """Whether another process gets a lock on the file of that name."""
    child = os.fork()
    if child == 0:
        try:
            fcntl.flock(os.open(path, os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os._exit(7)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_lock_file_is_removed_if_its_block_does_not_fail(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(KeyError), file_lock(path, "a test", remove=True):
        raise KeyError
    assert path.exists()
    with file_lock(path, "a test", remove=True):
        assert not another_process_gets(path)
    assert not path.exists()


def test_a_lock_file_that_is_removed_after_it_was_opened_is_not_mistaken_for_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last holder removes the file between the open() and the flock() of the next one."""
    path = tmp_path / "lock"
    flock = fcntl.flock
    removed: list[int] = []

    def removed_before(descriptor: int, operation: int) -> None:
        if not removed:
            removed.append(os.fstat(descriptor).st_ino)
            path.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_before)
    with file_lock(path, "a test"):
        assert len(removed) == 1
        assert not another_process_gets(path)


def test_processes_that_all_remove_the_lock_file_never_hold_it_together(tmp_path: Path) -> None:
    path, inside = tmp_path / "lock", tmp_path / "inside"
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(100):
                    with file_lock(path, "a test", remove=True):
                        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                        inside.unlink()
            except BaseException:
                os._exit(1)
            os._exit(0)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert not path.exists()


def test_the_children_of_a_process_are_found() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)  # until the end of this test
        os._exit(0)
    assert child in child_pids(os.getpid())
    os.close(reading)
    os.close(writing)
    os.waitpid(child, 0)
