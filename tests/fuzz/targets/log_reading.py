"""Targets of who reads the log: the index that lies in a cache, cursors, what was typed, a file of headers, answers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.audit.adapters.index import SqliteIndex
from strongroom.audit.adapters.sinks import parse_headers
from strongroom.audit.export.delivery import Answer, HttpSink, Patience
from strongroom.audit.export.otlp import OtlpFormat
from strongroom.audit.hosting import HostAddress
from strongroom.audit.reading.growth import Place, place_at
from strongroom.audit.reading.query import Query, read_moment
from strongroom.audit.reading.search import search
from strongroom.audit.succession import Seam, Succession
from strongroom.core.canonical import decode, encode
from strongroom.core.errors import UsageError
from strongroom.core.events import EventName
from strongroom.core.fields import reading
from support.log_views import MODELS, REQUESTS, MemoryView, log_of
from support.logs import GENESIS, KEEPER
from support.shards import ShardedLog

LOG: Final = log_of(
    [
        (EventName.REQUEST_CREATED, 0, {"request": REQUESTS[0], "model": MODELS[0], "requester": "dana"}),
        (EventName.REQUEST_APPROVED, 1, {"request": REQUESTS[0], "person": "dana"}),
    ]
)
_CLOSED: Final = ShardedLog().grow(3).turn()
ASKED: Final = Query(person="dana", model=MODELS[0])


def index(data: bytes) -> None:
    """Search through an index that holds these bytes; what is found must be in the log, and answer the query."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        path.write_bytes(data)
        with closing(SqliteIndex(path)) as opened:
            for place, entry in search(MemoryView(LOG), opened, ASKED, 10):
                if place not in {1, 2} or "dana" not in entry.facts.values():
                    raise AssertionError(f"entry {place} was shown")


def indexes() -> Iterable[bytes]:
    """Return a good index."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        with closing(SqliteIndex(path)) as opened:
            search(MemoryView(LOG), opened, ASKED, 10)
        return (path.read_bytes(),)


def places() -> Iterable[bytes]:
    """Return a good cursor."""
    view = MemoryView(LOG)
    return (place_at(view, view.head(), 3).to_bytes(), Place.start("vault.example/log").to_bytes())


def asked(data: bytes) -> None:
    """Read what somebody typed: a time, or else a request's digest."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        read_moment(text, now=1_800_000_000)
    except UsageError:
        Query(request=text)


def hosted(data: bytes) -> None:
    """Read where a log is hosted; what is taken names no other place than it says."""
    address = HostAddress.parse(data.decode("utf-8", "surrogateescape"))
    if "@" in str(address) or ".." in address.path_of("checkpoint").split("/"):
        raise AssertionError(f"`{address}` was taken")


def seam(data: bytes) -> None:
    """Read how a shard was closed; what is believed is the one way in which it was."""
    with reading(decode(data, max_bytes=1 << 17), "seam") as fields:
        shown = Seam.read(fields)
    known = Succession.of(GENESIS).cross(shown, KEEPER.public_key)
    if known.shards != _CLOSED.succession.shards:
        raise AssertionError("another end of the shard was believed")


def seams() -> Iterable[bytes]:
    """Return a good seam."""
    return (encode(_CLOSED.seam(1).to_json()),)


def answer(data: bytes) -> None:
    """Read a receiver's answer to a batch."""
    sink = HttpSink(
        OtlpFormat(), lambda _body: Answer(200, data), Patience(attempts=1, sleep=lambda _s: None, chance=lambda: 0.5)
    )
    sink.take(())


LOG_READING: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "log-index": Target(read=index, seeds=indexes, changes=60, longest=32_768),
        "log-cursor": Target(read=Place.parse, seeds=places, longest=8192),
        "log-asked": Target(read=asked, seeds=lambda: (b"7d", b"2026-11-23", b"2026-11-23T22:08:37Z", b"abcdef012345")),
        "log-seam": Target(read=seam, seeds=seams, longest=16_384),
        "log-host": Target(
            read=hosted, seeds=lambda: (b"s3://vault-log/acme/log", b"https://log.example.org:8443/acme"), longest=2048
        ),
        "export-headers": Target(read=parse_headers, seeds=lambda: (b"Authorization: Bearer abc\nX-Tenant: 7\n",)),
        "export-answer": Target(read=answer, seeds=lambda: (b'{"partialSuccess":{"rejectedLogRecords":"0"}}', b"{}")),
    }
)
