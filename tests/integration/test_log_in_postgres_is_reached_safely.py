"""A log in PostgreSQL: the whole deployment runs on it, the password stays in its file, the server is verified."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from strongroom.audit.adapters.postgres_store import PostgresStore
from strongroom.audit.store_settings import PostgresSettings, Standby, read_url
from strongroom.core.errors import UnavailableError
from support.certificates import Authority, Shape
from support.deployment import Deployment
from support.logs import LOG_KEY, next_batch, some_entries
from support.postgres import Cluster, programs

pytestmark = pytest.mark.integration
PASSWORD = "made-up pass phrase"


def test_a_whole_deployment_keeps_its_log_there(postgres: Cluster, tmp_path: Path) -> None:
    with Deployment.found(tmp_path / "home") as deployment:
        name = postgres.choose(deployment.home)
        deployment.start("log")
        deployment.start("keeper")
        deployment.adopt_first()
        before = int(postgres.sql(name, "SELECT size FROM strongroom_log.head"))
        assert before > 3
        deployment.stop("keeper")
        deployment.stop("log")
        deployment.start("log")
        deployment.start("keeper")
        assert int(postgres.sql(name, "SELECT size FROM strongroom_log.head")) > before
        assert not (deployment.home / "log" / "log.db").exists()


@pytest.fixture(scope="module")
def verified() -> Iterator[tuple[Cluster, Path, int]]:
    """Return a cluster that listens on loopback with TLS, asks for a password, and the authority of its certificate."""
    if programs() is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    cluster = Cluster.create()
    cluster.end()
    authority = Authority.make("database authority", int(time.time()))
    certificate, key = authority.leaf(
        Shape(
            at=int(time.time()) - 60,
            common_name="localhost",
            names=[x509.DNSName("localhost")],
            purposes=[ExtendedKeyUsageOID.SERVER_AUTH],
        )
    )
    cluster.give("server.crt", certificate.public_bytes(Encoding.PEM))
    cluster.give("server.key", key)
    cluster.give("pg_hba.conf", b"local all log trust\nhostssl all guest all scram-sha-256\n")
    root = cluster.folder / "root.pem"
    root.write_bytes(authority.pem)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        cluster.port = int(probe.getsockname()[1])
    try:
        cluster.start(["listen_addresses=localhost", "ssl=on"])
        cluster.sql("postgres", f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
        cluster.sql("postgres", "CREATE DATABASE vault OWNER guest")
        yield cluster, root, cluster.port
    finally:
        cluster.remove()


def reached(port: int, root: Path, host: str = "localhost") -> PostgresSettings:
    url = f"postgresql://guest@{host}:{port}/vault?sslmode=verify-full&sslrootcert={root}"
    return PostgresSettings(parameters=read_url(url), standby=Standby.NONE)


def password_file(folder: Path, password: str = PASSWORD) -> Path:
    path = folder / "pgpass"
    path.write_text(f"*:*:vault:guest:{password}\n")
    path.chmod(0o600)
    return path


def test_the_password_comes_from_its_file_over_verified_tls(
    verified: tuple[Cluster, Path, int], tmp_path: Path
) -> None:
    _, root, port = verified
    store = PostgresStore.open(reached(port, root), LOG_KEY, password_file=password_file(tmp_path))
    store.commit(next_batch(store, some_entries(5)))
    assert PASSWORD.encode() not in Path(f"/proc/{os.getpid()}/environ").read_bytes()
    assert PASSWORD.encode() not in Path(f"/proc/{os.getpid()}/cmdline").read_bytes()
    store.close()


def test_a_wrong_password_or_none_is_refused(verified: tuple[Cluster, Path, int], tmp_path: Path) -> None:
    _, root, port = verified
    for path in (tmp_path / "none", password_file(tmp_path, "wrong")):
        with pytest.raises(UnavailableError) as caught:
            PostgresStore.open(reached(port, root), LOG_KEY, password_file=path)
        assert PASSWORD not in caught.value.diagnosis()


def test_a_server_with_another_certificate_or_name_is_refused(
    verified: tuple[Cluster, Path, int], tmp_path: Path
) -> None:
    _, root, port = verified
    other = tmp_path / "other.pem"
    other.write_bytes(Authority.make("another authority", int(time.time())).pem)
    passwords = password_file(tmp_path)
    for settings in (reached(port, other), reached(port, root, "127.0.0.1")):
        with pytest.raises(UnavailableError):
            PostgresStore.open(settings, LOG_KEY, password_file=passwords)
