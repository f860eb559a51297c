"""A user of Redis with the rights of one test, and what Redis has denied it."""

from __future__ import annotations

from collections.abc import Sequence

import redis

USER, PASSWORD = "least", "of-all"


def set_user(client: redis.Redis, rules: Sequence[str]) -> None:
    """Make the user, with these rights and no others. Redis forgets what it has denied before."""
    client.execute_command("ACL", "SETUSER", USER, "reset", "on", f">{PASSWORD}", *rules)
    client.execute_command("ACL", "LOG", "RESET")


def url_of_user(url: str) -> str:
    """The URL of a server with the user instead of the one that it names."""
    scheme, _, rest = url.partition("//")
    return f"{scheme}//{USER}:{PASSWORD}@{rest.rpartition('@')[2]}"


def denied(client: redis.Redis) -> set[str]:
    """The commands, keys and channels that Redis has denied the user."""
    return {one["object"] for one in client.acl_log() if one["username"] == USER}
