"""Which engine runs an instance, and which one should run it."""

from __future__ import annotations

from infra.errors.exceptions import Terminal
from infra.servers import marker
from infra.servers.debian import ROOT_NAME, DebianEngine
from infra.servers.docker import DockerEngine
from infra.servers.engine import Engine
from infra.servers.external import ExternalEngine
from infra.servers.system import SystemEngine
from infra.settings import Settings

# `spillway up` tries them in this order.
ENGINES: dict[str, type[Engine]] = {"docker": DockerEngine, "system": SystemEngine, "debian": DebianEngine}


def all_engines(settings: Settings) -> list[Engine]:
    """The engines that start servers, in the order of preference."""
    if settings.instance == ROOT_NAME:
        raise Terminal(f"SPILLWAY_INSTANCE={ROOT_NAME} is the name of the Debian root's folder; choose another")
    return [engine(settings) for engine in ENGINES.values()]


def running_engine(settings: Settings) -> Engine | None:
    """The engine that runs at least one server of this instance; the external one if a URL is set; else None."""
    if settings.external:
        return ExternalEngine(settings)
    # Docker last: it takes longest to answer.
    return next((engine for engine in reversed(all_engines(settings)) if engine.runs()), None)


def last_engine(settings: Settings) -> Engine | None:
    """The engine that runs this instance, else the one that last did; None if it was never started."""
    found = running_engine(settings)
    if found is None and (name := marker.read(settings)) in ENGINES:
        return ENGINES[name](settings)
    return found


def choose_engine(settings: Settings, forced: str | None) -> tuple[Engine, list[str]]:
    """The engine that `up` should use, and why those before it cannot.

    It is the one that runs this instance already; else the one that has its data, if it still works here; else the
    first that works. `forced`: the only one allowed. Raises `Terminal` if there is none.
    """
    if forced is not None and forced not in ENGINES:
        raise Terminal(f"there is no engine {forced!r}; choose from {', '.join(ENGINES)}")
    current = running_engine(settings)
    if current is not None:
        if forced in (None, current.name):
            return current, []
        if current.name == ExternalEngine.name:
            raise Terminal(
                f"--engine {forced} contradicts an external URL; unset SPILLWAY_REDIS_URL and SPILLWAY_DATABASE_URL"
            )
        raise Terminal(
            f"{current.name} already runs the instance {settings.instance}; run `spillway down` first, or give the"
            " other one its own name and ports (SPILLWAY_INSTANCE, SPILLWAY_REDIS_PORT, SPILLWAY_POSTGRES_PORT)"
        )
    candidates = all_engines(settings)
    if forced is not None:
        candidates = [engine for engine in candidates if engine.name == forced]
    else:
        before = marker.read(settings)
        # A stable sort: the last engine first, the others in their order.
        candidates.sort(key=lambda engine: engine.name != before)
    reasons: list[str] = []
    for engine in candidates:
        reason = engine.unavailable_reason()
        if reason is None:
            return engine, reasons
        reasons.append(f"{engine.name}: {reason}")
    raise Terminal(
        f"no engine can run the servers here: {'; '.join(reasons)}; fix one of these, or set"
        " SPILLWAY_REDIS_URL and SPILLWAY_DATABASE_URL to servers that run elsewhere"
    )
