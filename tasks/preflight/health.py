"""Whether a container should get work (ready), and whether a restart would help it (live)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from infra.connections.clients import Clients
from infra.connections.short_timeouts import short_timeouts
from infra.display import coarse_age
from infra.errors.exceptions import SpillwayError, WrongUse
from infra.errors.redact import one_line
from infra.mapping.toml import configured_mappings
from infra.schema.schema_version import check_schema
from infra.settings import Settings
from tasks.maintain.jobs import format_age

_COMMAND = "health"
# The age of what last ended or was loaded, null if nothing was: a drain with or without success, another run that
# succeeded, or a range of a drain or a backfill. And that of the schema, which was applied before all of them.
_AGES = """
    SELECT clock_timestamp() - greatest((SELECT max(succeeded_at) FROM spillway.successes),
                                        (SELECT max(greatest(settled_at, loaded_at)) FROM spillway.streams)),
           clock_timestamp() - (SELECT max(applied_at) FROM spillway.schema_version)"""


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
    """Why a restart may help: nothing has ended or loaded for longer than `within`, although both servers answer.

    A drain that fails has ended as well. None if something has, and also if a server does not answer or refuses this
    program (a password, a schema of another version): then a restart would not help. Raises `WrongUse`.
    """
    with Clients(short_timeouts(config), _COMMAND) as clients:
        try:
            _check_redis(clients)
            with clients.translate_errors(_COMMAND), clients.postgres() as connection:
                check_schema(connection)
                ended, applied = connection.execute(_AGES).fetchone() or (None, None)
        except WrongUse:
            raise
        except SpillwayError:
            return None
    ages: list[timedelta] = [age for age in (ended, applied) if age is not None]
    if not ages or min(ages) <= within:
        return None
    last = "found none" if ended is None else f"the last one was {coarse_age(ended.total_seconds())} ago"
    return (
        f"{_COMMAND}: expected a run that ended or loaded something within {format_age(within)}, {last}; nothing was"
        " changed; read the log of this container, and see spillway status"
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
