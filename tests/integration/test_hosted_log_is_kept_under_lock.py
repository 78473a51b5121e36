"""A log in an S3-compatible store: laid down once, under a lock that holds, and verified from there. S3 runs here."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from strongroom.audit.adapters import s3_host
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.adapters.s3_host import Retention, S3Host, S3Source
from strongroom.audit.errors import EntryForgedError, ForkError, LogRolledBackError
from strongroom.audit.hosting import (
    HostAddress,
    HostDiffersError,
    Hosted,
    HostMovedError,
    HostOverwritesError,
    HostUnlockedError,
    publish,
)
from strongroom.audit.succession import Succession
from strongroom.audit.tiles import CHECKPOINT, Tile
from strongroom.cli.main import main
from strongroom.core.clock import SystemClock
from strongroom.core.errors import UnavailableError
from strongroom.core.signature import Ed25519Signer
from support.logs import GENESIS, LOG_KEY, LocalLog, some_entries
from support.shards import ShardedLog

boto3: Any = pytest.importorskip("boto3", reason="the extra `aws` isn't installed")
pytest.importorskip("moto.moto_server.werkzeug_app", reason="moto and flask aren't installed")
from simulators.strict_s3 import StrictS3  # noqa: E402 - needs moto

pytestmark = pytest.mark.integration

SECRET = "not-to-be-shown"
PLACE = "s3://vault-log/acme/log"
ADDRESS = HostAddress.parse(PLACE)
FILES = 8
"""Files of a log of 600 entries: three bundles, three tiles over them, one above, the checkpoint."""
BUNDLE = Tile(None, 0).path


@pytest.fixture(scope="module")
def server() -> Iterator[StrictS3]:
    """Start a store."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with StrictS3() as running:
        yield running


@pytest.fixture
def s3(server: StrictS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give an empty bucket with object lock, and the SDK's chain what it needs to reach it."""
    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": server.address,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="vault-log", ObjectLockEnabledForBucket=True)
    server.asked.clear()
    yield client
    reset_store(server)


def reset_store(server: StrictS3) -> None:
    """Forget everything: what is locked can't be deleted, not even here."""
    from moto.s3.models import s3_backends  # noqa: PLC0415 - an extra

    server.refused, server.conditions, server.locks = lambda _method, _path: None, True, True
    for account in s3_backends.values():
        for backend in account.values():
            backend.reset()


@pytest.fixture
def log(tmp_path: Path) -> LocalLog:
    """Make a log of 600 entries."""
    made = LocalLog(tmp_path)
    made.append(some_entries(600))
    return made


def locked_host(days: int = 30) -> S3Host:
    return S3Host(ADDRESS, clock=SystemClock(), lock=Retention(days))


def names(s3: Any) -> dict[str, int]:
    """Return how many versions each of the log's files has."""
    found: dict[str, int] = {}
    for one in s3.list_object_versions(Bucket="vault-log").get("Versions", ()):
        name = one["Key"].removeprefix("acme/log/")
        found[name] = found.get(name, 0) + 1
    return found


def publish_to(host: S3Host, source: FolderSource) -> Hosted:
    return publish(source, host, Succession.of(GENESIS), GENESIS.keeper_key)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["audit", *arguments])


@pytest.fixture
def key(tmp_path: Path) -> str:
    path = tmp_path / "log.pub"
    path.write_text(f"{LOG_KEY}\n")
    return str(path)


@pytest.fixture
def genesis(tmp_path: Path) -> str:
    path = tmp_path / "genesis.json"
    path.write_bytes(GENESIS.to_bytes())
    return str(path)


@pytest.mark.usefixtures("s3")
def test_a_published_log_is_verified_from_the_store(log: LocalLog, key: str, genesis: str) -> None:
    told = run("publish", "--log", str(log.public), "--genesis", genesis, "--to", PLACE, "--lock-days", "30")
    assert told.exit_code == 0, told.output
    assert "600 entries" in told.output
    assert "locked for 30 days" in told.output
    found = run("verify", "--log", PLACE, "--key", key, "--json", "--jobs", "1")
    assert found.exit_code == 0, found.output
    assert json.loads(found.output)["size"] == 600
    shown = run("show", "599", "--log", PLACE, "--key", key)
    assert shown.exit_code == 0, shown.output
    proof = log.home / "entry.proof"
    assert run("proof", "make", "7", "--log", PLACE, "--key", key, "--out", str(proof)).exit_code == 0
    whole = run("hosted", PLACE)
    assert whole.exit_code == 0, whole.output


def test_the_checkpoint_comes_last_and_twice_is_once(log: LocalLog, s3: Any, server: StrictS3) -> None:
    done = publish_to(locked_host(), FolderSource(log.public))
    puts = [path for method, path in server.asked if method == "PUT"]
    assert puts[-1].endswith("/checkpoint")
    assert (done.before, done.size) == (0, 600)
    assert set(names(s3).values()) == {1}
    again = publish_to(locked_host(), FolderSource(log.public))
    assert (again.before, again.files) == (600, 0)
    assert set(names(s3).values()) == {1}


def test_what_is_new_is_laid_down_and_every_checkpoint_stays(tmp_path: Path, s3: Any) -> None:
    log, entries = LocalLog(tmp_path), some_entries(700)
    sizes = (1, 255, 256, 257, 700)
    for before, size in pairwise((0, *sizes)):
        log.append(entries[before:size])
        publish_to(locked_host(), FolderSource(log.public))
    found = names(s3)
    assert found.pop(CHECKPOINT) == len(sizes)
    assert set(found.values()) == {1}
    assert S3Source(ADDRESS).read(BUNDLE) == FolderSource(log.public).read(BUNDLE)


def test_nothing_can_be_deleted_or_shortened(log: LocalLog, s3: Any) -> None:
    publish_to(locked_host(), FolderSource(log.public))
    refused = s3.exceptions.ClientError
    versions = s3.list_object_versions(Bucket="vault-log")["Versions"]
    assert len(versions) == FILES
    for one in versions:
        where = {"Bucket": "vault-log", "Key": one["Key"], "VersionId": one["VersionId"]}
        with pytest.raises(refused, match="AccessDenied"):
            s3.delete_object(**where)
        with pytest.raises(refused, match="AccessDenied"):
            s3.delete_object(**where, BypassGovernanceRetention=True)
        held = s3.head_object(**where)
        assert held["ObjectLockMode"] == "COMPLIANCE"
        assert held["ObjectLockRetainUntilDate"] > datetime.now(UTC) + timedelta(days=29)
        earlier = {"Mode": "COMPLIANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(days=1)}
        with pytest.raises(refused, match="AccessDenied"):
            s3.put_object_retention(**where, Retention=earlier)
    with pytest.raises(refused, match="InvalidBucketState"):
        s3.put_bucket_versioning(Bucket="vault-log", VersioningConfiguration={"Status": "Suspended"})


def test_a_file_written_over_or_deleted_in_sight_is_found_and_its_first_version_is_there(
    log: LocalLog, s3: Any, key: str
) -> None:
    publish_to(locked_host(), FolderSource(log.public))
    where = {"Bucket": "vault-log", "Key": f"acme/log/{BUNDLE}"}
    first = s3.head_object(**where)["VersionId"]
    for hide in (s3.put_object, s3.delete_object):
        hide(**where)
        assert run("verify", "--log", PLACE, "--key", key, "--jobs", "1").exit_code == 6
        found = run("hosted", PLACE, "--json")
        assert found.exit_code == 6
        assert json.loads(found.output)["covered"] == [BUNDLE]
        kept = s3.get_object(**where, VersionId=first)["Body"].read()
        assert kept == FolderSource(log.public).read(BUNDLE)


def test_a_store_without_locks_is_refused_unless_that_is_said(log: LocalLog, s3: Any, genesis: str) -> None:
    s3.create_bucket(Bucket="plain")
    s3.create_bucket(Bucket="versions")
    s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    given = ("publish", "--log", str(log.public), "--genesis", genesis)
    for bucket in ("plain", "versions"):
        told = run(*given, "--to", f"s3://{bucket}/log", "--lock-days", "1")
        assert (told.exit_code, "host-unlocked" in told.output) == (2, True), told.output
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    assert run(*given, "--to", "s3://plain/log").exit_code == 2
    told = run(*given, "--to", "s3://plain/log", "--unlocked")
    assert told.exit_code == 0, told.output
    assert "not locked" in told.output
    assert run("hosted", "s3://plain/log").exit_code == 2


def test_a_store_that_drops_the_lock_is_refused(log: LocalLog, server: StrictS3, s3: Any) -> None:
    server.locks = False
    with pytest.raises(HostUnlockedError):
        publish_to(locked_host(), FolderSource(log.public))
    assert CHECKPOINT not in names(s3)


def test_a_store_that_ignores_conditions_is_refused(log: LocalLog, server: StrictS3, s3: Any) -> None:
    server.conditions = False
    with pytest.raises(HostOverwritesError):
        publish_to(locked_host(), FolderSource(log.public))
    assert CHECKPOINT not in names(s3)


def test_other_bytes_under_a_tiles_name_are_never_replaced(log: LocalLog, s3: Any) -> None:
    s3.put_object(Bucket="vault-log", Key=f"acme/log/{BUNDLE}", Body=b"planted")
    with pytest.raises(HostDiffersError):
        publish_to(locked_host(), FolderSource(log.public))
    assert S3Source(ADDRESS).read(BUNDLE) == b"planted"
    assert CHECKPOINT not in names(s3)


@pytest.mark.parametrize("days", [None, 1])
def test_files_that_somebody_laid_down_before_arent_taken_for_locked(log: LocalLog, s3: Any, days: int | None) -> None:
    # The log is public: its bytes are laid there first, without a lock or with one that soon ends, to be deleted later.
    for path in (Tile(None, 0).path, Tile(0, 0).path):
        held: dict[str, Any] = {}
        if days is not None:
            until = datetime.now(UTC) + timedelta(days=days)
            held = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
        data = (log.public / path).read_bytes()
        s3.put_object(Bucket="vault-log", Key=f"acme/log/{path}", Body=data, **held)
    with pytest.raises(HostUnlockedError):
        publish_to(locked_host(), FolderSource(log.public))
    assert CHECKPOINT not in names(s3)


def test_files_that_a_checkpoint_laid_down_before_them_hides_are_missed(log: LocalLog, s3: Any) -> None:
    until = datetime.now(UTC) + timedelta(days=30)
    held = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
    note = (log.public / CHECKPOINT).read_bytes()
    s3.put_object(Bucket="vault-log", Key="acme/log/checkpoint", Body=note, **held)
    # The log itself published that checkpoint: the publisher takes its files for laid down.
    assert publish_to(locked_host(), FolderSource(log.public)).files == 0
    found = run("hosted", PLACE, "--json")
    assert found.exit_code == 6
    assert len(json.loads(found.output)["missing"]) == FILES - 1


def test_an_interrupted_publication_goes_on(
    log: LocalLog, server: StrictS3, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_host, "ATTEMPTS", 2)

    def tire(method: str, _path: str) -> tuple[int, str] | None:
        sent = sum(asked == "PUT" for asked, _ in server.asked)
        return (503, "SlowDown") if method == "PUT" and sent > 5 else None

    server.refused = tire
    with pytest.raises(UnavailableError) as caught:
        publish_to(locked_host(), FolderSource(log.public))
    assert SECRET not in caught.value.diagnosis()
    assert 0 < len(names(s3)) < FILES
    server.refused = lambda _method, _path: None
    assert publish_to(locked_host(), FolderSource(log.public)).before == 0
    found = names(s3)
    assert (len(found), set(found.values())) == (FILES, {1})


def test_an_older_log_or_another_one_is_never_published_over_a_newer(tmp_path: Path, s3: Any) -> None:
    entries = some_entries(300)
    held = {"newer": entries, "older": entries[:200], "other": [*entries[:299], *some_entries(350, at=1)[299:]]}
    for name, kept in held.items():
        (tmp_path / name).mkdir()
        LocalLog(tmp_path / name).append(kept)
    published = {name: FolderSource(tmp_path / name / "public") for name in held}
    publish_to(locked_host(), published["newer"])
    with pytest.raises(LogRolledBackError):
        publish_to(locked_host(), published["older"])
    with pytest.raises(ForkError):
        publish_to(locked_host(), published["other"])
    assert names(s3)[CHECKPOINT] == 1


def test_two_publishers_never_put_a_checkpoint_back(log: LocalLog, server: StrictS3, s3: Any) -> None:
    host = locked_host()
    publish_to(host, FolderSource(log.public))
    before = host.read(CHECKPOINT)
    raced: list[str] = []

    def race(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/checkpoint") and not raced:
            raced.append(path)
            s3.put_object(Bucket="vault-log", Key="acme/log/checkpoint", Body=b"newer")

    server.refused = race
    with pytest.raises(HostMovedError):
        host.replace(CHECKPOINT, b"late", before=before)
    assert host.read(CHECKPOINT) == b"newer"
    with pytest.raises(HostMovedError):
        host.replace(CHECKPOINT, b"late", before=before)


def test_files_carry_the_types_and_ages_of_the_layout(log: LocalLog, s3: Any) -> None:
    publish_to(locked_host(), FolderSource(log.public))
    tile = s3.head_object(Bucket="vault-log", Key=f"acme/log/{Tile(0, 0).path}")
    note = s3.head_object(Bucket="vault-log", Key="acme/log/checkpoint")
    assert (tile["ContentType"], tile["CacheControl"]) == ("application/octet-stream", "max-age=31536000, immutable")
    assert (note["ContentType"], note["CacheControl"]) == ("text/plain; charset=utf-8", "no-cache")


@pytest.mark.usefixtures("s3")
def test_a_store_that_refuses_says_no_secret(log: LocalLog, server: StrictS3, key: str, genesis: str) -> None:
    server.refused = lambda _method, _path: (403, "AccessDenied")
    told = run("publish", "--log", str(log.public), "--genesis", genesis, "--to", PLACE, "--lock-days", "1")
    assert told.exit_code == 7
    assert SECRET not in told.output
    assert run("verify", "--log", PLACE, "--key", key).exit_code == 7


def test_several_processes_verify_one_hosted_log(tmp_path: Path, s3: Any, key: str) -> None:
    del s3
    log = LocalLog(tmp_path)
    log.append(some_entries(64 * 256 + 10), batch=2048)
    publish_to(locked_host(), FolderSource(log.public))
    found = run("verify", "--log", PLACE, "--key", key, "--tree-only", "--jobs", "2", "--json")
    assert found.exit_code == 0, found.output


def test_every_shard_is_laid_down_and_verified_from_the_store(tmp_path: Path, s3: Any, key: str) -> None:
    log = ShardedLog().grow(300).turn().grow(5)
    done = publish_to(locked_host(), FolderSource(log.publish(tmp_path / "public")))
    assert (done.before, done.size) == (0, log.size)
    before = log.size
    log.grow(300).turn().grow(2)
    done = publish_to(locked_host(), FolderSource(log.publish(tmp_path / "public")))
    assert (done.before, done.size) == (before, log.size)
    assert (names(s3)["shards/2/checkpoint"], names(s3)["shards/3/checkpoint"]) == (2, 1)
    found = run("verify", "--log", PLACE, "--key", key, "--json", "--jobs", "1")
    assert found.exit_code == 0, found.output
    assert json.loads(found.output)["size"] == log.size
    assert run("hosted", PLACE).exit_code == 0


def test_a_shard_that_the_keeper_did_not_open_is_not_laid_down(tmp_path: Path, s3: Any) -> None:
    log = ShardedLog().grow(20).turn(by=Ed25519Signer.from_seed(b"T" * 32)).grow(5)
    with pytest.raises(EntryForgedError):
        publish_to(locked_host(), FolderSource(log.publish(tmp_path / "public")))
    assert not any(name.startswith("shards/") for name in names(s3))


def test_a_publisher_follows_the_log_and_waits_for_a_store_that_is_down(
    tmp_path: Path, s3: Any, server: StrictS3, genesis: str
) -> None:
    log, entries = LocalLog(tmp_path), some_entries(300)
    log.append(entries[:100])
    given = ["publish", "--log", str(log.public), "--genesis", genesis, "--to", PLACE, "--lock-days", "1"]
    command = [sys.executable, "-m", "strongroom.cli.main", "audit", *given, "--every", "1", "--json"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "AWS_MAX_ATTEMPTS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert json.loads(run.stdout.readline())["size"] == 100
        server.refused = lambda _method, _path: (503, "SlowDown")
        assert run.stderr.readline().startswith("waiting: the store is overloaded")
        log.append(entries[100:])
        server.refused = lambda _method, _path: None
        told = json.loads(run.stdout.readline())
        assert (told["before"], told["size"], told["lock_days"]) == (100, 300, 1)
        run.send_signal(signal.SIGTERM)
        _out, errors = run.communicate(timeout=30)
        assert (run.returncode, errors) == (0, "")
    assert names(s3)[CHECKPOINT] == 2
