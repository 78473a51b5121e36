"""Where the log is kept: what ``HOME/log/store.toml`` says. Without that file it is SQLite, in the same folder.

    url = "postgresql://log@db.example/vault?sslmode=verify-full&sslrootcert=/etc/vault/db-ca.pem"
    standby = "required"                 # or "none": a commit waits for a synchronous standby, or for one disk

A password is never in the URL: it stands in ``HOME/log/pgpass``, in the form of PostgreSQL's password file, mode 0600.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from strongroom.core.errors import MalformedError
from strongroom.core.fields import reading

MAX_SETTINGS: Final = 4096
_FROM_QUERY: Final = frozenset({"host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl"})
"""Parameters that the URL may set. Others could name another password, a service file or other session options."""


class Standby(StrEnum):
    """Whether a commit must have reached a second machine."""

    REQUIRED = "required"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings:
    """A PostgreSQL database that keeps one log. ``parameters`` are libpq's, by its keywords, without a password."""

    parameters: Mapping[str, str]
    standby: Standby

    @classmethod
    def parse(cls, data: bytes) -> PostgresSettings:
        """Read what ``store.toml`` holds.

        :raises MalformedError: another form, a member that this version doesn't know, or a URL that isn't allowed.
        """
        if len(data) > MAX_SETTINGS:
            raise MalformedError(f"`store.toml` is larger than {MAX_SETTINGS} bytes")
        try:
            value = tomllib.loads(data.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError):
            raise MalformedError("`store.toml` isn't TOML") from None
        with reading(value, "store.toml") as fields:
            parameters = fields.parsed("url", read_url, max_length=2048)
            standby = fields.parsed("standby", Standby)
        return cls(parameters=parameters, standby=standby)


def read_url(text: str) -> Mapping[str, str]:
    """Return the connection parameters that a URL gives.

    :raises MalformedError: not a PostgreSQL URL, a password in it, a parameter that it may not set, or a host that is
        reached over a network without a verified certificate.
    """
    try:
        parts = urlsplit(text)
        query = parse_qsl(parts.query, strict_parsing=bool(parts.query), keep_blank_values=True, max_num_fields=16)
        port = parts.port
    except ValueError:
        raise MalformedError("the store's URL can't be read") from None
    if parts.scheme != "postgresql" or parts.fragment or len(parts.path) < 2 or not parts.username:
        raise MalformedError("the store's URL is `postgresql://user@host/database`")
    if parts.password is not None:
        raise MalformedError("the store's URL holds a password", remedy="write it into `pgpass` beside `store.toml`")
    read = dict(query)
    if len(read) != len(query) or not read.keys() <= _FROM_QUERY:
        allowed = ", ".join(sorted(_FROM_QUERY))
        raise MalformedError(f"the store's URL may set these, each once: {allowed}")
    if parts.hostname:
        read.setdefault("host", parts.hostname)
    if port is not None:
        read.setdefault("port", str(port))
    read |= {"user": unquote(parts.username), "dbname": unquote(parts.path[1:])}
    _require_tls(read)
    if any("\x00" in value for value in read.values()):
        raise MalformedError("the store's URL holds a NUL")
    return read


def _require_tls(read: Mapping[str, str]) -> None:
    if not read.get("host"):
        raise MalformedError("the store's URL names no host", remedy="for a socket: ?host=/run/postgresql")
    if all(host.startswith("/") for host in read["host"].split(",")):
        return
    # Without the server's certificate whoever stands between could take the log, and answer for it.
    if read.get("sslmode") != "verify-full" or not read.get("sslrootcert"):
        raise MalformedError(
            "the store's URL goes over a network without a verified certificate",
            remedy="add sslmode=verify-full and sslrootcert=FILE, or use the server's Unix socket",
        )
