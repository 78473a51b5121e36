"""Targets of the intake gate: every format, signed bundles, records, lists, verdicts, reviews and attachments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from fuzz.targets.makers import vectors
from fuzz.targets.target import Target
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId
from strongroom.intake.attachments import read_attachment
from strongroom.intake.folder import Entry, EntryKind, check_folder
from strongroom.intake.formats.identify import check_file
from strongroom.intake.reviews import Decision, Review
from strongroom.intake.source import BytesSource
from strongroom.intake.statements import read_bundle, read_manifest
from strongroom.intake.states import Record, State, begin
from strongroom.intake.verdict import DeliveredFile, FileList, Verdict
from support.delivered import delivery
from support.pickle_corpus import corpus

_AT: Final[Instant] = 1_800_000_000


def _as_file(name: str) -> Callable[[bytes], object]:
    return lambda data: check_file(BytesSource(data), name, delivered={name: len(data), "weights.data": 16})


def _bundle(data: bytes) -> None:
    read_manifest(read_bundle(data).payload)


def _names(data: bytes) -> None:
    names = data.decode("utf-8", errors="surrogateescape").split("\n")
    check_folder(Entry(name=name, kind=EntryKind.FILE, size=1, links=1) for name in names)


def _files() -> FileList:
    return FileList.of([DeliveredFile("a.gguf", 3, Digest.of(b"abc")), DeliveredFile("b/c.json", 2, Digest.of(b"{}"))])


def _verdict() -> Verdict:
    standing = begin("0" * 32, ModelId("atlas"), _AT).step(State.HASHED, _AT, artifact=_files().digest)
    standing = standing.waive(State.SIGNATURE_VERIFIED, _AT).step(State.FORMATS_CHECKED, _AT)
    return Verdict.of(standing.waive(State.SCANNED, _AT).waive(State.REVIEWED, _AT))


def _review() -> Review:
    digest = Digest.of(b"x")
    return Review(delivery="0" * 32, artifact=digest, records=digest, decision=Decision.ACCEPT)


def _seed(data: bytes) -> Callable[[], tuple[bytes, ...]]:
    return lambda: (data,)


def _same(read: Callable[[bytes], FileList | Record | Review | Verdict]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        if read(data).to_bytes() != data:
            raise AssertionError

    return target


INTAKE: Final[Mapping[str, Target]] = MappingProxyType(
    {
        **{
            f"intake-{name.replace('/', '-').replace('.', '-').lower()}": Target(
                read=_as_file(name), seeds=_seed(data), longest=8192
            )
            for name, data in delivery().items()
            if not name.endswith(".data")
        },
        "intake-pickle-corpus": Target(
            read=_as_file("a.pkl"),
            seeds=lambda: [one.data for one in corpus() if one.name.endswith(".pkl")],
            longest=4096,
        ),
        "intake-bundle": Target(
            read=_bundle, seeds=lambda: tuple(vectors("../oms/v1.0/*/*.json")) or (b"{}",), changes=200
        ),
        "intake-manifest": Target(
            read=read_manifest,
            seeds=lambda: [read_bundle(one).payload for one in vectors("../oms/v1.0/valid/*.json")] or (b"{}",),
        ),
        "intake-names": Target(read=_names, seeds=lambda: (b"a.gguf\nb/c.json\nd.txt",), longest=4096),
        "intake-record": Target(read=_same(Record.parse), seeds=lambda: [one.to_bytes() for one in _verdict().records]),
        "intake-file-list": Target(read=_same(FileList.parse), seeds=lambda: (_files().to_bytes(),)),
        "intake-verdict": Target(read=_same(Verdict.parse), seeds=lambda: (_verdict().to_bytes(),)),
        "intake-review": Target(read=_same(Review.parse), seeds=lambda: (_review().to_bytes(),)),
        "intake-attachment": Target(
            read=read_attachment, seeds=lambda: (b'{"bomFormat":"CycloneDX","specVersion":"1.6"}',), longest=4096
        ),
    }
)
