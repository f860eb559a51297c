"""Whether a container should get work (ready), and whether a restart would help it (live)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from infra.connections.clients import Clients
from infra.display import coarse_age
from infra.errors.exceptions import SpillwayError, Transient
from infra.errors.redact import one_line
from infra.mapping.toml import configured_mappings
from infra.schema.schema_version import check_schema
from infra.settings import Settings
from tasks.maintain.jobs import format_age

_COMMAND = "health"
# Container engines wait for some seconds, and then kill the probe: it ends before, unless a setting is shorter.
_LIMITS_SECONDS = {"connect_timeout": 2.0, "redis_timeout": 2.0, "statement_timeout": 3.0, "lock_timeout": 1.0}

# The ages of the last drain that succeeded, null if none has, and of the schema, which was applied before one could.
_AGES = """
    SELECT clock_timestamp() - (SELECT succeeded_at FROM spillway.successes WHERE flow = 'drain'),
           clock_timestamp() - (SELECT max(applied_at) FROM spillway.schema_version)"""


def short_timeouts(config: Settings) -> Settings:
    """The settings with timeouts for a probe."""
    return config.model_copy(update={name: min(getattr(config, name), most) for name, most in _LIMITS_SECONDS.items()})


def readiness_faults(config: Settings) -> list[str]:
    """Why a run would fail before it reads anything: one line for each fault, none if both servers and the mapping
    file are as they should be."""
    with Clients(short_timeouts(config), _COMMAND) as clients:
        checks: list[Callable[[], object]] = [
            lambda: configured_mappings(config),
            lambda: _check_database(clients),
            lambda: _check_redis(clients),
        ]
        return [fault for check in checks if (fault := _fault(check)) is not None]


def liveness_fault(config: Settings, within: timedelta) -> str | None:
    """Why a restart may help: no drain has succeeded for longer than `within`, although both servers answer.

    None if one has, and also if a server does not answer: then a restart would not help.
    """
    with Clients(short_timeouts(config), _COMMAND) as clients:
        try:
            _check_redis(clients)
            with clients.translate_errors(_COMMAND), clients.postgres() as connection:
                check_schema(connection)
                drained, applied = connection.execute(_AGES).fetchone() or (None, None)
        except Transient:
            return None
    ages: list[timedelta] = [age for age in (drained, applied) if age is not None]
    if not ages or min(ages) <= within:
        return None
    last = "found none" if drained is None else f"the last one was {coarse_age(drained.total_seconds())} ago"
    return (
        f"{_COMMAND}: expected a drain that succeeded within {format_age(within)}, {last}; nothing was changed; read"
        " the log of this container, and see spillway status"
    )


def _check_database(clients: Clients) -> None:
    with clients.translate_errors(_COMMAND), clients.postgres() as connection:
        check_schema(connection)


def _check_redis(clients: Clients) -> None:
    with clients.translate_errors(_COMMAND):
        clients.redis.ping()


def _fault(check: Callable[[], object]) -> str | None:
    try:
        check()
    except SpillwayError as error:
        return one_line(error)
    return None
