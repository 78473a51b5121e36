"""Timestamps by a real authority over real checkpoints: made, kept and verified by the command, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.x509.oid import ExtendedKeyUsageOID

from strongroom.audit.errors import ForkError, MissingRowsError, TimestampError, TimestampFromFutureError
from strongroom.audit.timestamp import read_roots, request_timestamp, verify_timestamp
from strongroom.cli.audit import audit
from strongroom.core.errors import ConflictError, MalformedError, NotFoundError
from support.logs import LOG_KEY, LocalLog, some_entries
from support.timestamping import Authority

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.found(tmp_path_factory.mktemp("tsa") / "authority")


def timestamp(verb: str, *arguments: object) -> Result:
    return CliRunner().invoke(audit, ["timestamp", verb, *map(str, arguments)])


@pytest.fixture
def log(tmp_path: Path) -> LocalLog:
    made = LocalLog(tmp_path / "log")
    made.home.mkdir()
    made.append(some_entries(300))
    (tmp_path / "log.pub").write_text(f"{LOG_KEY}\n")
    return made


def stamp(log: LocalLog, authority: Authority, size: int) -> None:
    where = ("--log", log.public)
    asked = timestamp("request", *where, "--key", log.home.parent / "log.pub")
    assert asked.exception is None, asked.exception
    answer = authority.stamp(log.public / "timestamps" / f"{size}.tsq")
    kept = timestamp("import", answer, *where, "--size", size, "--tsa", authority.root)
    assert kept.exception is None, kept.exception
    answer.unlink()


def verified(log: LocalLog, authority: Authority, *more: object) -> Result:
    return timestamp(
        "verify", "--log", log.public, "--key", log.home.parent / "log.pub", "--tsa", authority.root, *more
    )


def test_a_stamped_checkpoint_is_shown_to_have_existed(log: LocalLog, authority: Authority) -> None:
    stamp(log, authority, 300)
    log.append(some_entries(550)[300:])
    stamp(log, authority, 550)
    told = json.loads(verified(log, authority, "--json").output)
    assert [one["size"] for one in told["timestamps"]] == [300, 550]
    assert isinstance(
        timestamp("request", "--log", log.public, "--key", log.home.parent / "log.pub").exception, ConflictError
    )


def test_a_log_that_no_longer_continues_what_was_stamped_is_a_fork(log: LocalLog, authority: Authority) -> None:
    stamp(log, authority, 300)
    other = LocalLog(log.home.parent / "other")
    other.home.mkdir()
    entries = some_entries(301)
    other.append([*entries[:299], entries[299].replace(b"22:08:37Z", b"22:08:36Z", 1), entries[300]])
    shutil.copytree(log.public / "timestamps", other.public / "timestamps")
    assert isinstance(verified(other, authority).exception, ForkError)
    short = LocalLog(log.home.parent / "short")
    short.home.mkdir()
    short.append(some_entries(200))
    shutil.copytree(log.public / "timestamps", short.public / "timestamps")
    assert isinstance(verified(short, authority).exception, MissingRowsError)


def test_a_timestamp_of_a_shorter_log_is_none_of_a_longer_one(log: LocalLog, authority: Authority) -> None:
    stamp(log, authority, 300)
    log.append(some_entries(550)[300:])
    folder = log.public / "timestamps"
    for kind in ("checkpoint", "tsr"):
        (folder / f"300.{kind}").rename(folder / f"550.{kind}")
    assert isinstance(verified(log, authority).exception, TimestampError)


def test_an_answer_of_another_authority_or_over_another_checkpoint_is_refused(
    log: LocalLog, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority.found(tmp_path / "stranger")
    asked = timestamp("request", "--log", log.public, "--key", log.home.parent / "log.pub")
    assert asked.exception is None
    request = log.public / "timestamps" / "300.tsq"
    where = ("--log", log.public, "--size", 300, "--tsa", authority.root)
    assert isinstance(timestamp("import", stranger.stamp(request), *where).exception, TimestampError)
    asked_first = request.read_bytes()
    request.write_bytes(request_timestamp(b"another checkpoint"))
    assert isinstance(timestamp("import", authority.stamp(request), *where).exception, TimestampError)
    # The right checkpoint under another nonce: an old answer, played again.
    request.write_bytes(request_timestamp((log.public / "timestamps" / "300.checkpoint").read_bytes()))
    replayed = authority.stamp(request)
    request.write_bytes(asked_first)
    assert isinstance(timestamp("import", replayed, *where).exception, TimestampError)
    assert isinstance(verified(log, authority).exception, NotFoundError)


def test_a_timestamp_is_refused_from_the_future_and_by_a_certificate_for_something_else(
    authority: Authority, tmp_path: Path
) -> None:
    message = b"a checkpoint"
    request = tmp_path / "one.tsq"
    request.write_bytes(request_timestamp(message))
    answer, roots = authority.stamp(request).read_bytes(), read_roots(authority.root.read_bytes())
    now = int(time.time())
    found = verify_timestamp(answer, message, roots, now=now)
    assert abs(found.at - now) < 120
    # Certificates count at the time of the stamp: years later it is still good.
    assert verify_timestamp(answer, message, roots, now=now + 20 * 365 * 86400) == found
    with pytest.raises(TimestampFromFutureError):
        verify_timestamp(answer, message, roots, now=now - 3600)
    for spoiled in (answer[:-1], answer + b"\0", b"", bytes(len(answer)), b"x" * (1 << 17)):
        with pytest.raises(TimestampError):
            verify_timestamp(spoiled, message, roots, now=now)
    with pytest.raises(TimestampError):
        verify_timestamp(answer, message, (), now=now)
    wrong = Authority.found(tmp_path / "wrong", usage=ExtendedKeyUsageOID.CODE_SIGNING)
    # OpenSSL's authority refuses such a certificate itself.
    with pytest.raises(subprocess.CalledProcessError):
        wrong.stamp(request)
    with pytest.raises(MalformedError):
        read_roots(b"no certificate")


def test_every_changed_bit_of_an_answer_is_refused(authority: Authority, tmp_path: Path) -> None:
    message = b"a checkpoint"
    request = tmp_path / "one.tsq"
    request.write_bytes(request_timestamp(message))
    answer, roots = authority.stamp(request).read_bytes(), read_roots(authority.root.read_bytes())
    now = int(time.time())
    good = verify_timestamp(answer, message, roots, now=now)
    for place in range(0, len(answer), 7):
        changed = bytearray(answer)
        changed[place] ^= 1
        try:
            found = verify_timestamp(bytes(changed), message, roots, now=now)
        except TimestampError:
            continue
        # What isn't signed (the status text, copies of certificates) may change; what was said may not.
        assert found == good
