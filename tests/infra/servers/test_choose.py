"""Which engine is chosen, and why the others are skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors.exceptions import Terminal
from infra.servers import debian, marker
from infra.servers.choose import ENGINES, choose_engine, last_engine, running_engine
from infra.servers.external import ExternalEngine
from infra.servers.system import SystemEngine
from infra.settings import Settings


@pytest.fixture
def nowhere(tmp_path: Path) -> Settings:
    """Settings of an instance that was never started."""
    return Settings(_env_file=None, instance="nobody-has-this", state_dir=tmp_path, redis_url="", database_url="")


def test_the_first_usable_engine_is_chosen_with_reasons_for_the_others(nowhere: Settings) -> None:
    able = [name for name, engine in ENGINES.items() if engine(nowhere).unavailable_reason() is None]
    if not able:
        with pytest.raises(Terminal, match="no engine can run the servers here"):
            choose_engine(nowhere, None)
        return
    engine, reasons = choose_engine(nowhere, None)
    assert engine.name == able[0]
    unable = list(ENGINES)[: list(ENGINES).index(able[0])]
    assert [reason.partition(":")[0] for reason in reasons] == unable


def test_the_engine_that_ran_last_is_preferred(nowhere: Settings) -> None:
    able = [name for name, engine in ENGINES.items() if engine(nowhere).unavailable_reason() is None]
    if len(able) < 2:
        pytest.skip("fewer than two engines can work here")
    marker.write(nowhere, able[-1])
    assert choose_engine(nowhere, None)[0].name == able[-1]
    assert choose_engine(nowhere, able[0])[0].name == able[0]
    found = last_engine(nowhere)
    assert found is not None
    assert found.name == able[-1]
    marker.remove(nowhere)
    assert not (nowhere.state_dir / nowhere.instance).exists()


def test_a_missing_docker_is_reported(nowhere: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Terminal, match="docker: docker is not installed"):
        choose_engine(nowhere, "docker")


def test_a_docker_daemon_that_does_not_answer_is_reported(
    nowhere: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if ENGINES["docker"](nowhere).unavailable_reason() == "docker is not installed":
        pytest.skip("docker is not installed")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(Terminal, match="docker: the Docker daemon does not answer; start it"):
        choose_engine(nowhere, "docker")


def test_the_system_engine_reports_what_it_expected_and_found(
    nowhere: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.servers.system.MIN_POSTGRES", 99)
    assert "PostgreSQL 99 or later with TimescaleDB 2.18.1 or later" in (
        SystemEngine(nowhere).unavailable_reason() or ""
    )


def test_a_small_disk_is_refused_before_a_root_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "NEEDED_BYTES", 10**18)
    with pytest.raises(
        Terminal, match=r"a Debian root needs .* while it is created, found .* free; free some space there"
    ):
        debian.make_root(tmp_path / "debian-13")
    assert list(tmp_path.iterdir()) == []


def test_a_url_means_the_external_engine(nowhere: Settings) -> None:
    settings = nowhere.model_copy(update={"redis_url": Settings(redis_url="redis://elsewhere").redis_url})
    assert isinstance(running_engine(settings), ExternalEngine)
    assert isinstance(choose_engine(settings, None)[0], ExternalEngine)
    with pytest.raises(Terminal, match="external URL"):
        choose_engine(settings, "system")


def test_no_engine_runs_an_instance_that_was_never_started(nowhere: Settings) -> None:
    assert running_engine(nowhere) is None
    assert last_engine(nowhere) is None


def test_an_unknown_engine_and_the_name_of_the_root_folder_are_refused(nowhere: Settings) -> None:
    with pytest.raises(Terminal, match="no engine 'podman'"):
        choose_engine(nowhere, "podman")
    with pytest.raises(Terminal, match="choose another"):
        choose_engine(nowhere.model_copy(update={"instance": "debian-13"}), None)
