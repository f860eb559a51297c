"""The settings that are URLs, each checked without quoting any part of it."""

from __future__ import annotations

from pydantic import SecretStr
from pydantic_core import PydanticCustomError

from infra.prefect_blocks import check_reference, is_reference
from infra.urls import UnreadableUrl, read_database_url, read_redis_url

REPLICA = "replica"  # of `read_from`: any that the Sentinels or the Cluster name


def check_database_url(value: SecretStr) -> SecretStr:
    """Refuse an invalid URL. An empty one means the local server."""
    try:
        if is_reference(value.get_secret_value()):
            _check_reference(value)
        elif value.get_secret_value():
            read_database_url(value.get_secret_value())
    except UnreadableUrl as error:
        raise PydanticCustomError("url", "{fault}", {"fault": str(error)}) from None
    return value


def check_redis_url(value: SecretStr) -> SecretStr:
    """Refuse a reference to no block. `Settings.redis` refuses other invalid URLs."""
    if is_reference(value.get_secret_value()):
        _check_reference(value)
    return value


def _check_reference(value: SecretStr) -> None:
    if fault := check_reference(value.get_secret_value()):
        raise PydanticCustomError("url", "{fault}", {"fault": fault})


def check_read_from(value: SecretStr) -> SecretStr:
    """Refuse what names no server. Empty means the primary."""
    try:
        if is_reference(value.get_secret_value()):
            _check_reference(value)
        elif value.get_secret_value() not in ("", REPLICA):
            read_redis_url(value.get_secret_value())
    except UnreadableUrl as error:
        fault = str(error).removeprefix("expected ")
        raise PydanticCustomError("url", "expected 'replica', or {fault}", {"fault": fault}) from None
    return value
