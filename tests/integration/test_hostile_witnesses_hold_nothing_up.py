"""Whatever a witness answers, the log goes on: only its key's good cosignature counts, and only the log's own key's
signature on something that the log doesn't hold stops it.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.audit.adapters.witness_client import WitnessRounds
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.cosignature import Cosigner
from strongroom.audit.errors import ForkError, LogRolledBackError
from strongroom.audit.merkle import leaf_hash, make_consistency, node_hash, tree_root
from strongroom.audit.note import Note
from strongroom.audit.witness import Submission
from strongroom.audit.witness_policy import WitnessPolicy, check_note
from strongroom.core.clock import SystemClock
from strongroom.core.signature import Ed25519Signer
from support.certificates import SERVER, Authority, Shape
from support.cosigners import witness
from support.logs import LOG_KEY, LOG_SIGNER, ORIGIN
from support.witnesses import make_witness, running_witness

pytestmark = pytest.mark.integration

LEAVES = [leaf_hash(bytes([number])) for number in range(64)]
SIZE = 20
GOOD, BAD = witness(1), witness(2)
NOW = int(time.time())


def node(level: int, index: int) -> bytes:
    if level == 0:
        return LEAVES[index]
    return node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))


def checkpoint(size: int) -> Checkpoint:
    return Checkpoint(ORIGIN, size, tree_root(LEAVES[:size]))


@dataclass
class Published:
    """A log of 20 entries, and what is published of it."""

    cosigned: bytes | None = None
    shown: list[bytes] = field(default_factory=list)

    async def flush(self) -> int:
        return SIZE

    async def prove_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        return make_consistency(old, new, node)

    async def root_at(self, size: int) -> bytes:
        return checkpoint(size).root

    def published_note(self) -> bytes | None:
        return checkpoint(SIZE).sign(LOG_SIGNER)

    def cosigned_checkpoint(self) -> bytes | None:
        return self.cosigned

    def publish_cosigned(self, note: bytes) -> None:
        self.cosigned = note

    def add_cosignatures(self, note: bytes) -> None:
        self.shown.append(note)


Answer = Callable[[bytes, bytes], bytes]
"""Request line and body -> the whole answer."""


def http(status: int, body: bytes, *headers: str) -> bytes:
    head = "\r\n".join((f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", "Connection: close", *headers))
    return f"{head}\r\n\r\n".encode() + body


def cosigns(by: Cosigner, *, at: int = 0, size: int = SIZE) -> Answer:
    return lambda _line, _body: http(200, by.cosign(checkpoint(size), NOW + at).line().encode())


async def serving(answer: Answer, use: Callable[[int], Awaitable[None]]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
        )
        writer.write(answer(head.split(b"\r\n")[0], await reader.readexactly(length)))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        await use(server.sockets[0].getsockname()[1])


def rounds(log: Published, policy: Path, **more: object) -> WitnessRounds:
    return WitnessRounds(
        key=LOG_KEY,
        policy_file=policy,
        authority=policy.with_name("authority.pem"),
        log=log,
        notes=log,
        executor=ThreadPoolExecutor(1),
        clock=SystemClock(),
        answer_seconds=1.0,
        **more,  # type: ignore[arg-type]
    )


async def asked(tmp_path: Path, bad: Answer, *, urls: str = "") -> Published:
    """Ask a good witness and a bad one, whose key is known too; the quorum is both. Returns what came of it."""
    log, policy = Published(), tmp_path / "policy"

    async def beside(good_port: int) -> None:
        async def with_bad(bad_port: int) -> None:
            url = urls or f"http://127.0.0.1:{bad_port}/"
            policy.write_text(
                f"witness G {GOOD.key} http://127.0.0.1:{good_port}\nwitness B {BAD.key} {url}\n"
                "group both all G B\nquorum both\n",
                errors="surrogateescape",
            )
            start = time.monotonic()
            await rounds(log, policy).round()
            assert time.monotonic() - start < 20

        await serving(bad, with_bad)

    await serving(cosigns(GOOD), beside)
    return log


def own(size: int, by: Ed25519Signer = LOG_SIGNER, root: bytes | None = None) -> Answer:
    """Answer 409, and show a checkpoint as what was cosigned last."""
    head = checkpoint(size)
    note = Checkpoint(ORIGIN, size, root or head.root).sign(by)
    return lambda line, _body: http(200, note) if line.startswith(b"GET") else http(409, b"%d\n" % size)


ANSWERS: dict[str, Answer] = {
    "nothing": lambda _line, _body: b"",
    "no HTTP": lambda _line, _body: b"\x16\x03\x01" * 99,
    "an error": lambda _line, _body: http(500, b"oh"),
    "empty": lambda _line, _body: http(200, b""),
    "garbage": lambda _line, _body: http(200, b"\xff" * 99),
    "too much": lambda _line, _body: http(200, b"x" * (1 << 20)),
    "endless": lambda _line, _body: b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (1 << 20),
    "a redirect": lambda _line, _body: http(302, b"", "Location: http://127.0.0.1:1/"),
    "packed": lambda _line, _body: http(200, gzip.compress(b"x" * (1 << 20)), "Content-Encoding: gzip"),
    "another's": cosigns(GOOD),
    "a stranger's": cosigns(witness(7)),
    "another size": cosigns(BAD, size=19),
    "from the future": cosigns(BAD, at=3600),
    "of another log": lambda _line, _body: http(
        200, BAD.cosign(Checkpoint("other.example", SIZE, checkpoint(SIZE).root), NOW).line().encode()
    ),
    "409 without a size": lambda _line, _body: http(409, b""),
    "409 with another": lambda _line, _body: http(409, b"7\n"),
    "409 beyond the log": lambda _line, _body: http(409, b"9223372036854775807\n"),
    "409 and a text": lambda _line, _body: http(409, b"-3 or so\n"),
    "422": lambda _line, _body: http(422, b""),
    "a stranger's longer log": own(40, Ed25519Signer.from_seed(b"s" * 32)),
    "an older checkpoint": own(12),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_is_not_its_good_cosignature_is_as_no_answer(tmp_path: Path, answer: str) -> None:
    log = asyncio.run(asked(tmp_path, ANSWERS[answer]))
    assert log.cosigned is None, "no quorum"
    policy = WitnessPolicy.parse(f"log {LOG_KEY}\nwitness G {GOOD.key}\nquorum G\n".encode())
    assert check_note(log.shown[-1], policy, now=NOW).counted.keys() == {"G"}
    assert str(BAD.key.name) not in log.shown[-1].decode()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "https://127.0.0.1:1/", "ftp://w/", "no address", "http://[::1", "http://w/\udcff"]
)
def test_addresses_that_lead_nowhere_are_as_no_answer(tmp_path: Path, url: str) -> None:
    log = asyncio.run(asked(tmp_path, cosigns(BAD), urls=url.replace(" ", "%20")))
    assert log.cosigned is None


def test_both_good_answers_make_the_quorum(tmp_path: Path) -> None:
    log = asyncio.run(asked(tmp_path, cosigns(BAD)))
    assert log.cosigned is not None


def test_a_conflict_is_answered_once_with_the_size_that_was_told(tmp_path: Path) -> None:
    seen: list[int] = []

    def answer(_line: bytes, body: bytes) -> bytes:
        seen.append(Submission.parse(body).old)
        if seen[-1] != 13:
            return http(409, b"13\n")
        return http(200, BAD.cosign(checkpoint(SIZE), NOW).line().encode())

    assert asyncio.run(asked(tmp_path, answer)).cosigned is not None
    assert seen == [0, 13]


def test_only_the_logs_own_signature_stops_it(tmp_path: Path) -> None:
    with pytest.raises(LogRolledBackError):
        asyncio.run(asked(tmp_path, own(40)))
    with pytest.raises(ForkError):
        asyncio.run(asked(tmp_path, own(SIZE, root=b"\x01" * 32)))
    with pytest.raises(ForkError):
        asyncio.run(asked(tmp_path, own(12, root=b"\x01" * 32)))


def test_other_witnesses_lines_are_not_passed_on(tmp_path: Path) -> None:
    """A witness gets the log's signatures alone, whatever was gathered before."""
    bodies: list[bytes] = []

    def answer(_line: bytes, body: bytes) -> bytes:
        bodies.append(body)
        return http(200, BAD.cosign(checkpoint(SIZE), NOW).line().encode())

    asyncio.run(asked(tmp_path, answer))
    note = Submission.parse(bodies[0]).note
    assert {line.name for line in note.signatures} == {ORIGIN}
    assert Note.parse(note.to_bytes()) == note


def test_a_witness_may_be_reached_over_tls_by_an_authority_of_its_own(tmp_path: Path) -> None:
    now = int(datetime.now(UTC).timestamp())
    authority = Authority.make("witnesses", now)
    names = (x509.IPAddress(ip_address("127.0.0.1")),)
    certificate, key = authority.leaf(Shape(names=names, at=now - 60, purposes=SERVER))
    (tmp_path / "server.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "server.key").write_bytes(key)
    folder = make_witness(tmp_path / "w", str(LOG_KEY))
    options = ("--tls-certificate", str(tmp_path / "server.pem"), "--tls-key", str(tmp_path / "server.key"))
    with running_witness(folder, options=options) as one:
        policy = tmp_path / "policy"
        policy.write_text(f"witness W {one.key} https://127.0.0.1:{one.port}\nquorum W\n")
        log = Published()
        asyncio.run(rounds(log, policy).round())
        assert log.cosigned is None, "an authority that nobody named isn't believed"
        (tmp_path / "authority.pem").write_bytes(authority.pem)
        asyncio.run(rounds(log, policy).round())
        assert log.cosigned is not None
