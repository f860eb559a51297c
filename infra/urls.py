"""The URLs of the two servers. An invalid one is refused without quoting any part of it.

The message of a parser quotes the invalid part, and a wrong guess about where the password ends makes part of it a
host. So an ambiguous URL is refused: special characters have to be written as %40 and the like.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from redis.connection import parse_url

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_REDIS_FORM = (
    "redis://user:password@host:6379/0, rediss://…, unix:///path/to/redis.sock?db=0 or, for Sentinel,"
    " redis+sentinel://user:password@host:26379,host:26379/service/0"
)
_DATABASE_FORM = "postgresql://user:password@host:5432/name"
_ENCODE = "write special characters of a password as %40 and the like"

# Parameters of a Redis URL → the option of redis-cli with the same meaning; None if it has none.
_TLS_PARAMETERS: dict[str, str | None] = {
    "ssl_ca_certs": "--cacert",
    "ssl_ca_path": "--cacertdir",
    "ssl_certfile": "--cert",
    "ssl_keyfile": "--key",
    "ssl_ciphers": "--tls-ciphers",
    "ssl_cert_reqs": None,
    "ssl_check_hostname": None,
}
_PARAMETERS = ("db", "username", "password", "socket_timeout", "socket_connect_timeout")
# Of the Sentinels themselves. User and password before the @ are those of the Redis that they watch.
_SENTINEL_PARAMETERS = {"sentinel_username": "username", "sentinel_password": "password"}
_SENTINEL_PORT = 26379
_CERT_REQS = ("none", "optional", "required")


class UnreadableUrl(ValueError):
    """An invalid URL. The text quotes no part of it."""


@dataclass(frozen=True)
class RedisUrl:
    """A Redis URL. `options`: for redis-py, with the password. `where`: `host:port`, or the path of a socket.

    `sentinels`: host and port of each Sentinel that names the primary of `service`, and `sentinel_options` user and
    password for them. Then `options` has no host and no port.
    """

    options: dict[str, Any]
    where: str
    socket: bool
    tls: bool
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_options: Mapping[str, str] = field(default_factory=dict)

    def redis_cli(self, primary: tuple[str, int] | None = None) -> tuple[list[str], dict[str, str]]:
        """Options for redis-cli, and as environment variables what must not appear in an argument.

        `primary`: host and port that the Sentinels name, if the URL names these.
        """
        found = self.options if primary is None else self.options | {"host": primary[0], "port": primary[1]}
        options = ["-s", found["path"]] if self.socket else ["-h", found["host"], "-p", str(found["port"])]
        if self.tls:
            options.append("--tls")
            for name, option in _TLS_PARAMETERS.items():
                if option is not None and name in found:
                    options += [option, found[name]]
            if found.get("ssl_cert_reqs", "required") != "required":
                options.append("--insecure")
        if found.get("db"):
            options += ["-n", str(found["db"])]
        if "username" in found:
            options += ["--user", found["username"]]
        return options, {"REDISCLI_AUTH": found["password"]} if "password" in found else {}


def read_redis_url(url: str) -> RedisUrl:
    """Read a Redis URL. Raises `UnreadableUrl`."""
    try:
        return _read_sentinel_url(url) if "+sentinel://" in url[:20] else _read_redis_url(url)
    except UnreadableUrl:
        raise
    except ValueError:
        raise UnreadableUrl(f"expected a URL like {_REDIS_FORM}; {_ENCODE}") from None


def _read_redis_url(url: str) -> RedisUrl:
    if not url.startswith(("redis://", "rediss://", "unix://")) or re.search(r"[#\s\x00-\x1f\x7f]", url):
        raise ValueError
    parts = urlsplit(url)
    socket, tls = parts.scheme == "unix", parts.scheme == "rediss"
    # What comes after the host has no @: with one, the password ends elsewhere than it seems.
    if "@" in parts.path or "@" in parts.query:
        raise ValueError
    _check_parameters(parts.query, tls)
    found = parse_url(url)
    found.pop("connection_class", None)
    if socket:
        if parts.netloc.rpartition("@")[2] or not parts.path.startswith("/"):
            raise ValueError
        return RedisUrl(found, found["path"], socket, tls)
    if not re.fullmatch(r"/?|/[0-9]{1,6}/?", parts.path) or (parts.username == "" and parts.password is None):
        raise ValueError
    found.setdefault("host", "localhost")
    found["port"] = 6379 if parts.port is None else parts.port
    _check_host(parts.hostname or "localhost")
    return RedisUrl(found, _where(found["host"], found["port"]), socket, tls)


def _read_sentinel_url(url: str) -> RedisUrl:
    """The URL of one Redis, with a list of Sentinels for its host and the service before the number of the database."""
    scheme, _, rest = url.partition("+sentinel://")
    place, mark, query = rest.partition("?")
    login, at, place = place.rpartition("@")
    hosts, _, path = place.partition("/")
    service, _, database = path.partition("/")
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if mark else []
    own = {_SENTINEL_PARAMETERS[name]: value for name, value in pairs if name in _SENTINEL_PARAMETERS}
    others = urlencode([pair for pair in pairs if pair[0] not in _SENTINEL_PARAMETERS])
    if scheme not in ("redis", "rediss") or not service or "/" in login or not all(hosts.split(",")):
        raise ValueError
    sentinels = []
    for host in hosts.split(","):
        one = _read_redis_url(f"{scheme}://{login}{at}{host}/{database}{'?' * bool(others)}{others}")
        port = one.options["port"] if re.search(r":[0-9]+$", host) else _SENTINEL_PORT
        sentinels.append((one.options["host"], port))
    options = {name: value for name, value in one.options.items() if name not in ("host", "port")}
    name = unquote(service)
    where = ",".join(_where(*sentinel) for sentinel in sentinels) + f"/{name}"
    return replace(one, options=options, where=where, sentinels=tuple(sentinels), service=name, sentinel_options=own)


def _check_parameters(query: str, tls: bool) -> None:
    known = (*_PARAMETERS, *_TLS_PARAMETERS) if tls else _PARAMETERS
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    names = [name for name, _ in pairs]
    if any(name not in known for name in names):
        also = "" if tls else " (and ssl_… with rediss://)"
        raise UnreadableUrl(f"expected only the parameters {', '.join(known)}{also}; {_ENCODE}")
    if len(set(names)) < len(names):
        raise UnreadableUrl("expected each parameter once")
    values = dict(pairs)
    if values.get("ssl_cert_reqs", "required") not in _CERT_REQS:
        raise UnreadableUrl(f"expected ssl_cert_reqs to be one of {', '.join(_CERT_REQS)}")
    if values.get("ssl_check_hostname", "true").lower() not in ("true", "false", "yes", "no", "1", "0"):
        raise UnreadableUrl("expected ssl_check_hostname to be true or false")


def _check_host(host: str) -> None:
    if ":" in host:
        ipaddress.ip_address(host.partition("%")[0])
    elif not _HOST.fullmatch(host):
        raise ValueError


def _where(host: str, port: int | str) -> str:
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" if port else host


def read_database_url(url: str) -> str:
    """`host:port` of a database URL or of libpq's pairs; the first of several. Raises `UnreadableUrl`."""
    try:
        if url.startswith(("postgres://", "postgresql://")):
            _check_database_url(url)
        elif "://" in url or "=" not in url:
            raise ValueError
        found = conninfo_to_dict(url)
        host = str(found.get("host") or found.get("hostaddr") or "localhost").partition(",")[0]
        port = str(found.get("port") or "").partition(",")[0]
        if not (host.startswith("/") or host == "localhost"):
            _check_host(host)
        if port and not port.isdigit():
            raise ValueError
    except (ValueError, psycopg.Error):
        raise UnreadableUrl(f"expected a URL like {_DATABASE_FORM}; {_ENCODE}") from None
    return _where(host, port)


def _check_database_url(url: str) -> None:
    """Refuse more than one @: for libpq the password ends at the first, for other parsers at the last."""
    rest = url.partition("://")[2]
    user, at, _ = rest.partition("@")
    if rest.count("@") > 1 or re.search(r"[#\s\x00-\x1f\x7f]", rest) or (at and re.search(r"[/?]", user)):
        raise ValueError
    server = re.split(r"[/?]", rest.rpartition("@")[2], maxsplit=1)[0]
    for one in server.split(","):
        host, _, port = one.rpartition(":") if one.rpartition("]")[2].count(":") else (one, "", "")
        host = unquote(host)
        if port and not port.isdigit():
            raise ValueError
        if host.startswith("/") or not host:
            continue
        _check_host(host.removeprefix("[").removesuffix("]"))
