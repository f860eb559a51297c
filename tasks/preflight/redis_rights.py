"""The rights that a command needs in Redis, as the ACL of a user.

`COMMANDS` is the only list of these rights: `spillway grants --redis` prints it. It was found by experiment: tests take
each right away from a real user.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from infra.errors.exceptions import WrongUse
from infra.settings import Settings
from infra.urls import read_redis_url
from tasks.streams.glob import is_pattern

# Every connection, and one consistent look at streams. CONFIG GET is not here: it would show the passwords of Redis.
_LOOK = ("client|setname", "info", "type", "multi", "exec", "xinfo|stream", "xrange")
# Without these, replies have no bound. See `limited_reply.py`.
_BOUND = ("subscribe", "unsubscribe", "eval_ro")
_READ = (*_LOOK, *_BOUND, "ping")
_PUBLISH = ("xgroup|create", "xgroup|setid", "xgroup|destroy", "xinfo|groups")
_TRIM = ("xtrim", "xpending")
_CHANNEL = "spillway"  # nobody publishes to it
# By command, as it is typed. Other commands do not use Redis. SCAN only for patterns.
COMMANDS: Mapping[str, Sequence[str]] = {
    "drain": (*_READ, "scan", "time", "xrevrange", *_PUBLISH),
    "backfill": (*_READ, "time", "xrevrange", "xgroup|create"),  # so that no other database trims what is not drained
    "quarantine redrive": (*_LOOK, "eval_ro"),
    "reconcile": (*_LOOK, *_BOUND),
    "reconcile --deep": _READ,
    "reconcile --deep --repair": _READ,
    "stream recover": _READ,
    "metrics": (*_READ, "time"),
    "status": (*_READ, "time", "scan"),
    "health": ("client|setname", "info", "ping"),
}
_WRITES = ("xgroup", "xtrim")


def redis_rights(commands: Iterable[str], patterns: Sequence[str], config: Settings, cluster: bool) -> list[str]:
    """The rules of a user who runs `commands`, keys of `COMMANDS`, on streams of `patterns`, and who may do nothing
    else. `cluster`: whether the server is a Redis Cluster. `config`: whether drains trim, and the URL.

    Raises `WrongUse` for a pattern that no ACL can have.
    """
    for pattern in patterns:
        if re.search(r"[\s\0]", pattern):
            raise WrongUse(
                f"grants: --stream {pattern!r}: expected no spaces, which an ACL cannot have; nothing was printed;"
                " write ? for each"
            )
    wanted = [*dict.fromkeys(one for command in commands for one in COMMANDS[command])]
    if "xgroup|setid" in wanted and config.trim_keep is not None:
        wanted += _TRIM
    if not any(is_pattern(one) for one in patterns):
        wanted = [one for one in wanted if one != "scan"]
    if read_redis_url(config.redis).options.get("db"):
        wanted.append("select")
    if cluster:
        wanted.append("cluster|slots")
        wanted += ["readonly"] * (config.read_from.get_secret_value() == "replica")
    keys = "~" if any(one.startswith(_WRITES) for one in wanted) else "%R~"
    streams = [keys + one for one in patterns] if "type" in wanted else []
    channels = [f"&{_CHANNEL}"] if "subscribe" in wanted else []
    return ["resetkeys", "resetchannels", "-@all", *streams, *channels, *(f"+{one}" for one in wanted)]


def acl_command(user: str, rules: Iterable[str]) -> str:
    """`ACL SETUSER` as one types it into redis-cli. It changes neither the password nor whether the user is on."""
    if not user or re.search(r"[\s\0]", user):
        raise WrongUse(f"grants: expected the name of a user of Redis, without spaces, found {user!r}")
    return " ".join(["ACL", "SETUSER", *map(_quoted, [user, *rules])])


def _quoted(word: str) -> str:
    """A word that redis-cli and a shell read as it is."""
    if re.fullmatch(r"[\w:.,@%+-]+", word, re.ASCII):
        return word
    return "'" + word.replace("'", r"\'") + "'"
