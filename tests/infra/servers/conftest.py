"""Real servers for these tests: one shared instance for each engine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.servers.choose import ENGINES
from infra.settings import Settings
from tests.support.instances import ENGINES_WITHOUT_DOCKER, Instance


@pytest.fixture(scope="session")
def make_instance() -> Iterator[Callable[[str], Instance]]:
    """Creates instances of an engine without starting them, and removes them afterwards."""
    # Not pytest's own folder: that one is closed to the users that the servers run as.
    folder = Path(tempfile.mkdtemp(prefix="spillway-"))
    folder.chmod(0o755)
    made: list[Instance] = []

    def make(engine: str) -> Instance:
        # The Debian root takes half a minute to make: these tests share the one that users have.
        default = Settings(_env_file=None).state_dir
        instance = Instance(engine, default if engine == "debian" else folder, folder)
        if reason := instance.engine.unavailable_reason():
            pytest.skip(f"{engine}: {reason}")
        made.append(instance)
        return instance

    yield make
    for instance in made:
        instance.engine.reset()
    shutil.rmtree(folder)


@pytest.fixture(scope="module", params=ENGINES_WITHOUT_DOCKER)
def shared(request: pytest.FixtureRequest, make_instance: Callable[[str], Instance]) -> Instance:
    """One instance for a module; use `local`, which runs."""
    return make_instance(request.param)


@pytest.fixture
def local(shared: Instance) -> Instance:
    """The module's instance, running."""
    shared.engine.up()
    return shared


@pytest.fixture(params=ENGINES_WITHOUT_DOCKER)
def fresh(request: pytest.FixtureRequest, make_instance: Callable[[str], Instance]) -> Instance:
    """A new instance that was never started."""
    return make_instance(request.param)


@pytest.fixture(scope="session")
def some(make_instance: Callable[[str], Instance]) -> Instance:
    """A running instance of the first usable engine, for tests that do not depend on the engine."""
    for name in ENGINES_WITHOUT_DOCKER:
        if ENGINES[name](Settings(_env_file=None)).unavailable_reason() is None:
            instance = make_instance(name)
            instance.engine.up()
            return instance
    pytest.skip("no engine but docker can work here")
