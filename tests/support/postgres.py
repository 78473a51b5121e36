"""A real PostgreSQL of the test's own: one cluster in a temporary folder, reached by its Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from strongroom.audit.store_settings import PostgresSettings, Standby

_PLACES: Final = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")
VAULT: Final = "vault"
_CONFIGURATION: Final = """\
listen_addresses = ''
unix_socket_directories = '{sockets}'
max_connections = 80
shared_buffers = 64MB
log_min_messages = warning
autovacuum = off
recovery_init_sync_method = syncfs
"""


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, or None."""
    found = [path.parent for place in _PLACES for path in Path("/").glob(f"{place[1:]}/initdb")]
    return max(found, default=None)


def _ordinary() -> tuple[int, int]:
    # The server refuses to run as root.
    if os.geteuid():
        return os.geteuid(), os.getegid()
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    return user.pw_uid, user.pw_gid


class Cluster:
    """A cluster that was made for one test session; ``stop`` removes it."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.folder = folder
        self._bin = bin_folder
        self._uid, self._gid = _ordinary()
        self._server: subprocess.Popen[bytes] | None = None
        self.port = 5432
        """Of the Unix socket, and of TCP where the server is told to listen there."""

    @classmethod
    def create(cls, place: Path | None = None) -> Self:
        """Make a cluster under ``place`` (a temporary folder of its own by default) and start it."""
        bin_folder = programs()
        assert bin_folder is not None, "no PostgreSQL here"
        folder = Path(tempfile.mkdtemp(prefix="pg-", dir=place))
        made = cls(folder, bin_folder)
        for path in (folder, made.sockets):
            path.mkdir(exist_ok=True)
            os.chown(path, made._uid, made._gid)
        made.run("initdb", "-D", str(made.data), "-U", "log", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8")
        with (made.data / "postgresql.conf").open("a") as file:
            file.write(_CONFIGURATION.format(sockets=made.sockets))
        made.start()
        return made

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def sockets(self) -> Path:
        return self.folder / "run"

    def run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs as the cluster's user."""
        done = subprocess.run(
            [str(self._bin / program), *arguments],
            user=self._uid,
            group=self._gid,
            extra_groups=[],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def give(self, name: str, data: bytes) -> None:
        """Write a file into the cluster's data folder, for its user alone."""
        path = self.data / name
        path.write_bytes(data)
        path.chmod(0o600)
        os.chown(path, self._uid, self._gid)

    def start(self, options: Sequence[str] = ()) -> None:
        """Start the server; ``options`` are settings, ``name=value``."""
        given = [argument for option in (f"port={self.port}", *options) for argument in ("-c", option)]
        with (self.folder / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self.data), *given],
                user=self._uid,
                group=self._gid,
                extra_groups=[],
                cwd=self.folder,
                env={"LC_ALL": "C"},
                stdout=log,
                stderr=log,
            )
        for _ in range(600):
            if (self.data / "postmaster.pid").exists() and self._ready():
                return
            assert self._server.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            time.sleep(0.05)
        raise AssertionError((self.folder / "server.log").read_text()[-2000:])

    def _ready(self) -> bool:
        probe = [str(self._bin / "pg_isready"), "-q", "-U", "log", "-h", str(self.sockets), "-p", str(self.port)]
        return subprocess.run(probe, check=False, timeout=20).returncode == 0

    def kill(self) -> None:
        """End the server without a goodbye, as a crash does: SIGKILL to all of its processes."""
        assert self._server is not None
        children = Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children").read_text().split()
        self._server.kill()
        for child in children:
            try:
                os.kill(int(child), 9)
            except ProcessLookupError:
                continue
        self._server.wait()

    def end(self) -> None:
        """End the server in order (fast shutdown)."""
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(2)
            self._server.wait(60)

    def remove(self) -> None:
        """End the server, without its farewell, and remove the cluster."""
        if self._server is not None and self._server.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)

    def choose(self, home: Path) -> str:
        """Have the deployment at ``home`` keep its log in the emptied database; returns the database's name."""
        name = self.emptied().parameters["dbname"]
        settings = home / "log" / "store.toml"
        settings.write_text(f'url = "postgresql://log@/{name}?host={self.sockets}"\nstandby = "none"\n')
        return name

    def emptied(self) -> PostgresSettings:
        """Return how to reach the database ``vault``, without the log that the test before kept there."""
        if VAULT in self.sql("postgres", "SELECT datname FROM pg_database").split():
            # Not a database for each test: a thousand files each, to be synced, recovered and removed.
            ending = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            self.sql(VAULT, ending + " WHERE datname = current_database() AND pid <> pg_backend_pid()")
            schemas = [f"strongroom_log{shard}" for shard in ("", "_2", "_3")]
            self.sql(
                VAULT, "SET client_min_messages = error", *(f"DROP SCHEMA IF EXISTS {one} CASCADE" for one in schemas)
            )
            return self.settings(VAULT)
        return self.database(VAULT)

    def database(self, name: str) -> PostgresSettings:
        """Make a new, empty database and return how to reach it."""
        self.sql("postgres", f"CREATE DATABASE {name}")
        return self.settings(name)

    def settings(self, name: str, standby: Standby = Standby.NONE) -> PostgresSettings:
        """Return how to reach a database."""
        parameters = {"host": str(self.sockets), "port": str(self.port), "user": "log", "dbname": name}
        return PostgresSettings(parameters=parameters, standby=standby)

    def sql(self, name: str, *statements: str) -> str:
        """Run statements as the database's owner; returns what psql printed."""
        commands = [argument for statement in statements for argument in ("-c", statement)]
        reach = ["-h", str(self.sockets), "-p", str(self.port), "-U", "log", "-d", name]
        return self.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *reach, *commands)
