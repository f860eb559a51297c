"""The end of every message about an error of one of the two servers: what the user does next."""

from __future__ import annotations

import ssl

import psycopg
import redis
from redis import exceptions
from redis.sentinel import MasterNotFoundError

from infra.errors.classify import client_refuses, is_transient, out_of_locks, redis_code, tls_fault
from infra.errors.exceptions import AcceptsAgain, NoAnswer, PasswordMissing, UnknownHost
from infra.errors.sqlstates import sqlstate_rule

# Commands that load batches: smaller or fewer batches need less memory and fewer connections.
_LOADING = ("drain", "backfill", "quarantine redrive")
_STALLED = "see why the server or the network is stalled, then {again}"
# A statement takes a lock for each chunk and each of its indexes.
_LOCKS = "raise max_locks_per_transaction on the database server to 512 and restart it{smaller}, then {again}"
_UNKNOWN = "see docs/operations.md"

_POSTGRES_BY_CLASS: tuple[tuple[type[Exception], str], ...] = (  # errors that have no SQLSTATE
    (PasswordMissing, "fix user and password in SPILLWAY_DATABASE_URL"),
    (UnknownHost, "fix the host in SPILLWAY_DATABASE_URL"),
    (psycopg.errors.ConnectionTimeout, _STALLED),
    (NoAnswer, _STALLED),
    (AcceptsAgain, "the server accepts connections again by now: {again}"),
)
_CLIENTS = "raise Redis's maxclients or see who holds its connections (CLIENT LIST), then {again}"
_RIGHTS = "give the user of SPILLWAY_REDIS_URL its rights (`spillway grants USER --redis` prints the ACL SETUSER)"
_REDIS_BY_CLASS: tuple[tuple[type[Exception], str], ...] = (  # subclasses come before their bases
    (exceptions.AuthenticationError, "fix user and password in SPILLWAY_REDIS_URL"),
    (exceptions.NoPermissionError, _RIGHTS),
    (exceptions.BusyLoadingError, "wait until Redis has loaded its data, then {again}"),
    (exceptions.MaxConnectionsError, _CLIENTS),
    (exceptions.ReadOnlyError, "point SPILLWAY_REDIS_URL at the primary, then {again}"),
    (exceptions.OutOfMemoryError, "raise Redis's maxmemory or trim drained entries, then {again}"),
    (exceptions.AskError, "wait until the Cluster has moved the keys, then {again}"),
    (MasterNotFoundError, "see why the Sentinels name no primary (SENTINEL MASTERS), then {again}"),
    (exceptions.ClusterDownError, "wait for the primary or point SPILLWAY_REDIS_URL at it, then {again}"),
    (exceptions.TimeoutError, "see why Redis is slow or raise SPILLWAY_REDIS_TIMEOUT, then {again}"),
)
_REDIS_BY_CODE: dict[str | None, str] = {
    "NOAUTH": "put user and password into SPILLWAY_REDIS_URL",
    "MISCONF": "free space on the disk of Redis, which cannot save and accepts no writes (INFO persistence),"
    " then {again}",
    "BUSY": "wait for the script that Redis runs or end it (SCRIPT KILL), then {again}",
    "NOREPLICAS": "see why the replicas of Redis are disconnected (INFO replication), then {again}",
    "DENIED": "set a password on Redis, or protected-mode no",
}


def repeat(command: str) -> str:
    """The advice to repeat `command`, such as `drain` or `quarantine list`; without one, to try again."""
    return f"run `spillway {command}` again" if command else "try again"


def next_step(error: psycopg.Error | exceptions.RedisError, command: str = "") -> str:
    """What the user does about an error in a run of `command`, without a full stop.

    Every transient error has its own, and it ends with the command to repeat.
    """
    text = _redis_step(error) if isinstance(error, redis.exceptions.RedisError) else _postgres_step(error)
    loads = command in _LOADING
    return (
        text.replace("{again}", repeat(command))
        .replace("{smaller}", " or lower SPILLWAY_BATCH_ROWS" if loads else "")
        .replace("{fewer}", " or lower SPILLWAY_PARALLEL_LOADS" if loads else "")
    )


def _redis_step(error: exceptions.RedisError) -> str:
    if (fault := tls_fault(error)) is not None:
        return _tls_step(fault)
    if (code := redis_code(error)) in _REDIS_BY_CODE:
        return _REDIS_BY_CODE[code]
    for kind, step in _REDIS_BY_CLASS:
        if isinstance(error, kind):
            return step
    if "NOPERM" in str(error):  # of a command in a transaction
        return _RIGHTS
    if "max number of clients" in str(error):  # redis-py has a class for it only if the client itself counts
        return _CLIENTS
    return _start("SPILLWAY_REDIS_URL") if is_transient(error) else _UNKNOWN


def _postgres_step(error: psycopg.Error) -> str:
    if out_of_locks(error):
        return _LOCKS
    if error.sqlstate and (step := sqlstate_rule(error.sqlstate).next_step):
        return step
    for kind, step in _POSTGRES_BY_CLASS:
        if isinstance(error, kind):
            return step
    if "session is read-only" in str(error):  # of a URL with target_session_attrs; libpq's own words
        return sqlstate_rule("25006").next_step or _UNKNOWN
    if client_refuses(error):
        return "fix the TLS options of SPILLWAY_DATABASE_URL (sslmode, sslrootcert, sslcert, sslkey)"
    return _start("SPILLWAY_DATABASE_URL") if is_transient(error) else _UNKNOWN


def _tls_step(fault: ssl.SSLError) -> str:
    if isinstance(fault, ssl.SSLCertVerificationError):
        return (
            "name the authority that signed the certificate (?ssl_ca_certs=FILE in SPILLWAY_REDIS_URL), and the host as"
            " the certificate has it"
        )
    if fault.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return "this port does not speak TLS: write redis:// in SPILLWAY_REDIS_URL, or name the TLS port"
    return "see whether Redis asks for a client certificate (?ssl_certfile=FILE&ssl_keyfile=FILE in SPILLWAY_REDIS_URL)"


def _start(variable: str) -> str:
    return f"start it (spillway up) or point {variable} at a running server, then {{again}}"
