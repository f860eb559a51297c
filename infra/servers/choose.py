"""Which engine runs an instance, and which one should."""

from __future__ import annotations

from infra.errors.exceptions import Terminal
from infra.servers import marker
from infra.servers.debian import ROOT_NAME, DebianEngine
from infra.servers.docker import DockerEngine
from infra.servers.engine import Engine
from infra.servers.external import External
from infra.servers.system import SystemEngine
from infra.settings import Settings

# In the order in which `spillway up` tries them.
ENGINES: dict[str, type[Engine]] = {"docker": DockerEngine, "system": SystemEngine, "debian": DebianEngine}


def engines(settings: Settings) -> list[Engine]:
    """The three that start servers, in the order of preference."""
    if settings.instance == ROOT_NAME:
        raise Terminal(f"SPILLWAY_INSTANCE={ROOT_NAME} is the name of the Debian root's folder: choose another")
    return [engine(settings) for engine in ENGINES.values()]


def running(settings: Settings) -> Engine | None:
    """The engine that runs this instance (one server is enough), or the external one if a URL is set."""
    if settings.external:
        return External(settings)
    # Docker last: asking it takes longest.
    return next((engine for engine in reversed(engines(settings)) if engine.runs()), None)


def known(settings: Settings) -> Engine | None:
    """The engine that runs this instance, else the one it was last up with; None if it never was."""
    found = running(settings)
    if found is None and (name := marker.read(settings)) in ENGINES:
        return ENGINES[name](settings)
    return found


def pick(settings: Settings, forced: str | None) -> tuple[Engine, list[str]]:
    """The engine that `up` should use, and why those before it could not.

    That is the one that runs this instance already; else the one that holds its data from an earlier `up`, if it
    still can; else the first that can. `forced` leaves no choice. Raises `Terminal` if there is none.
    """
    if forced is not None and forced not in ENGINES:
        raise Terminal(f"there is no engine {forced!r}: choose from {', '.join(ENGINES)}")
    current = running(settings)
    if current is not None:
        if forced in (None, current.name):
            return current, []
        if current.name == External.name:
            raise Terminal(f"--engine {forced} with an external URL set: unset SPILLWAY_REDIS_URL and _DATABASE_URL")
        raise Terminal(
            f"instance {settings.instance} runs by {current.name} already: run `spillway down` first,"
            " or give the other one a name and ports of its own (SPILLWAY_INSTANCE, …_REDIS_PORT, …_POSTGRES_PORT)"
        )
    candidates = engines(settings)
    if forced is not None:
        candidates = [engine for engine in candidates if engine.name == forced]
    else:
        before = marker.read(settings)
        # Stable: the remembered one first, the others in their order.
        candidates.sort(key=lambda engine: engine.name != before)
    reasons: list[str] = []
    for engine in candidates:
        reason = engine.why_not()
        if reason is None:
            return engine, reasons
        reasons.append(f"{engine.name}: {reason}")
    raise Terminal(
        f"no way to run the servers here. {'; '.join(reasons)}."
        " Or set SPILLWAY_REDIS_URL and SPILLWAY_DATABASE_URL to servers that run elsewhere"
    )
