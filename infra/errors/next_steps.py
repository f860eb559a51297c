"""What to do about an error of one of the two servers: the end of every message."""

from __future__ import annotations

import ssl

import psycopg
import redis
from redis import exceptions

from infra.errors.classify import client_refuses, is_transient, redis_code, tls_fault
from infra.errors.exceptions import NoAnswer, PasswordMissing, UnknownHost

_CONNECTIONS = "raise max_connections or lower SPILLWAY_PARALLEL_LOADS"
_WAIT = "wait until it is up again (spillway status), then drain again"
_STALLED = "see why it or the network stands still, then drain again"

_BY_SQLSTATE = {  # or by its class
    "28": "fix user and password in SPILLWAY_DATABASE_URL, or let this user in (pg_hba.conf)",
    "08P01": "see the log of the pooler (PgBouncer) in front of the server",
    "3D000": "create the database or mend SPILLWAY_DATABASE_URL",
    "42P01": "apply the schema: spillway schema",
    "42703": "apply the schema (spillway schema), or bring the column back if it is one of yours",
    "3F000": "apply the schema: spillway schema",
    "42501": "grant the role of SPILLWAY_DATABASE_URL what it lacks (spillway grants ROLE --for COMMAND prints it)",
    "40": "drain again: two runs were in each other's way, and this one's range was rolled back",
    "53100": "free disk space on the database server; nothing is lost, the drain goes on from here",
    "53400": "raise timescaledb.max_tuples_decompressed_per_dml_transaction on the server, or set it to 0",
    "53200": "give the database server more memory, or lower SPILLWAY_PARALLEL_LOADS and SPILLWAY_BATCH_ROWS",
    "53300": _CONNECTIONS,
    "55P03": "find the lock: SELECT * FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
    "57014": "raise SPILLWAY_STATEMENT_TIMEOUT or lower SPILLWAY_BATCH_ROWS",
    "57P01": _WAIT,
    "57P02": _WAIT,
    "57P03": _WAIT,
    "57P05": "drain again, or raise the server's idle_session_timeout",
    "25006": "wait for the primary, or point SPILLWAY_DATABASE_URL at it",
    "25P03": "see why the drain stood still, or raise SPILLWAY_STATEMENT_TIMEOUT; its range was rolled back",
    "58030": "look after the disk of the database server; nothing is lost, the drain goes on from here",
}
_POSTGRES_BY_CLASS: tuple[tuple[type[Exception], str], ...] = (  # errors that have no SQLSTATE
    (PasswordMissing, "fix user and password in SPILLWAY_DATABASE_URL"),
    (UnknownHost, "fix the host in SPILLWAY_DATABASE_URL"),
    (psycopg.errors.ConnectionTimeout, _STALLED),
    (NoAnswer, _STALLED),
)
_BY_CLASS: tuple[tuple[type[Exception], str], ...] = (  # the first that fits: some are kinds of others
    (exceptions.AuthenticationError, "mend user and password in SPILLWAY_REDIS_URL"),
    (exceptions.NoPermissionError, "let the user of SPILLWAY_REDIS_URL run this command (ACL SETUSER)"),
    (exceptions.BusyLoadingError, "wait until it has loaded its data, then drain again"),
    (exceptions.MaxConnectionsError, "raise Redis's maxclients, or see who holds its connections (CLIENT LIST)"),
    (exceptions.ReadOnlyError, "point SPILLWAY_REDIS_URL at the primary"),
    (exceptions.OutOfMemoryError, "raise Redis's maxmemory, or trim what is drained"),
    (exceptions.ClusterDownError, "wait until its primary is there again, or point SPILLWAY_REDIS_URL at that"),
    (exceptions.TimeoutError, "see why it is slow, or raise SPILLWAY_REDIS_TIMEOUT"),
)

_BY_CODE: dict[str | None, str] = {
    "NOAUTH": "put user and password into SPILLWAY_REDIS_URL",
    "MISCONF": "free space on the disk of Redis, which cannot save itself and takes no writes (INFO persistence)",
    "BUSY": "wait for the script that Redis runs, or end it (SCRIPT KILL)",
    "NOREPLICAS": "see why the replicas of Redis are away (INFO replication)",
    "MOVED": "point SPILLWAY_REDIS_URL at a Redis without cluster mode",
    "DENIED": "set a password on Redis, or protected-mode no",
}


def next_step(error: psycopg.Error | exceptions.RedisError) -> str:
    """What a person does next, without a full stop. Every passing error has one of its own."""
    if isinstance(error, redis.exceptions.RedisError):
        if (fault := tls_fault(error)) is not None:
            return _tls_step(fault)
        if (code := redis_code(error)) in _BY_CODE:
            return _BY_CODE[code]
        for kind, step in _BY_CLASS:
            if isinstance(error, kind):
                return step
        if "max number of clients" in str(error):  # a class of its own only where the client counts
            return "raise Redis's maxclients, or see who holds its connections (CLIENT LIST)"
        return _start("SPILLWAY_REDIS_URL") if is_transient(error) else "see docs/operations.md"
    state = error.sqlstate or ""
    for key in (state, state[:2]):
        if key in _BY_SQLSTATE:
            return _BY_SQLSTATE[key]
    for kind, step in _POSTGRES_BY_CLASS:
        if isinstance(error, kind):
            return step
    if client_refuses(error):
        return "fix the TLS options of SPILLWAY_DATABASE_URL (sslmode, sslrootcert, sslcert)"
    return _start("SPILLWAY_DATABASE_URL") if is_transient(error) else "see docs/operations.md"


def _tls_step(fault: ssl.SSLError) -> str:
    if isinstance(fault, ssl.SSLCertVerificationError):
        return (
            "name the authority that signed its certificate in SPILLWAY_REDIS_URL (?ssl_ca_certs=FILE), and the host as"
            " the certificate has it"
        )
    if fault.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return "this port does not speak TLS: write redis:// in SPILLWAY_REDIS_URL, or name the TLS port"
    return "see whether it wants a client's certificate (?ssl_certfile=FILE&ssl_keyfile=FILE in SPILLWAY_REDIS_URL)"


def _start(variable: str) -> str:
    return f"start it (spillway up), or point {variable} at a server that runs"
