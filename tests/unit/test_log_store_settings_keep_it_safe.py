"""Where the log is kept is said in one file: no password in it, no unverified network, nothing that isn't known."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.audit.adapters.stores import open_store
from strongroom.audit.store_settings import PostgresSettings, Standby, read_url
from strongroom.core.errors import MalformedError, StrongroomError, UsageError
from support.logs import LOG_KEY

TLS = "sslmode=verify-full&sslrootcert=/ca.pem"


def test_a_socket_needs_no_certificate() -> None:
    assert read_url("postgresql://log@/vault?host=/run/postgresql&port=5433") == {
        "host": "/run/postgresql",
        "port": "5433",
        "user": "log",
        "dbname": "vault",
    }


def test_a_network_is_crossed_with_a_verified_certificate() -> None:
    read = read_url(f"postgresql://log@db.example:6432/vault?{TLS}")
    assert (read["host"], read["port"], read["sslmode"]) == ("db.example", "6432", "verify-full")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://log:pass-phrase@/vault?host=/run",
        "postgresql://log:@/vault?host=/run",
        "postgresql://log@db.example/vault",
        "postgresql://log@db.example/vault?sslmode=require&sslrootcert=/ca.pem",
        "postgresql://log@db.example/vault?sslmode=verify-ca&sslrootcert=/ca.pem",
        "postgresql://log@db.example/vault?sslmode=verify-full",
        "postgresql://log@127.0.0.1/vault",
        "postgresql://log@/vault?host=/run,db.example",
        "postgresql://log@/vault",
        "postgresql://log@db.example/?" + TLS,
        "postgresql://db.example/vault?" + TLS,
        "postgresql://log@db.example/vault?" + TLS + "&sslmode=disable",
        "postgresql://log@db.example/vault?" + TLS + "&password=pass-phrase",
        "postgresql://log@db.example/vault?" + TLS + "&passfile=/tmp/x",
        "postgresql://log@db.example/vault?" + TLS + "&options=-csynchronous_commit=off",
        "postgresql://log@db.example/vault?" + TLS + "&service=other",
        "postgresql://log@db.example/vault?" + TLS + "#x",
        "postgresql://log@db.example:port/vault?" + TLS,
        "postgresql://log@/vault?host=/run%00",
        "postgresql://[::1/vault?" + TLS,
        "mysql://log@db.example/vault?" + TLS,
        "sqlite:///log.db",
        "",
    ],
)
def test_other_urls_are_refused_and_no_password_is_repeated(url: str) -> None:
    with pytest.raises(MalformedError) as caught:
        read_url(url)
    assert "pass-phrase" not in caught.value.diagnosis()


def test_the_file_says_where_and_what_is_demanded_of_the_standby() -> None:
    for standby in Standby:
        text = f'url = "postgresql://log@db.example/vault?{TLS}"\nstandby = "{standby}"\n'
        assert PostgresSettings.parse(text.encode()).standby is standby


@pytest.mark.parametrize(
    "text",
    [
        'url = "postgresql://log@/vault?host=/run"',
        'url = "postgresql://log@/vault?host=/run"\nstandby = "perhaps"',
        'url = "postgresql://log@/vault?host=/run"\nstandby = "none"\nfsync = false',
        'standby = "none"',
        "url = 3\nstandby = 'none'",
        "not toml",
        "[" * 3000,
        "#" * 5000,
    ],
)
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        PostgresSettings.parse(text.encode())


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_settings_that_others_can_write_are_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "store.toml"
    path.write_text('url = "postgresql://log@/vault?host=/run"\nstandby = "none"\n')
    path.chmod(mode)
    with pytest.raises(UsageError, match=r"store\.toml"):
        open_store(tmp_path, LOG_KEY, shard=1, visit=None, expected=None)


def test_a_link_in_the_settings_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.toml").symlink_to("/dev/null")
    with pytest.raises(StrongroomError):
        open_store(tmp_path, LOG_KEY, shard=1, visit=None, expected=None)


def test_without_settings_the_log_is_kept_beside_them(tmp_path: Path) -> None:
    open_store(tmp_path, LOG_KEY, shard=1, visit=None, expected=None).close()
    assert (tmp_path / "log.db").exists()
