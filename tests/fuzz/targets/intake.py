"""Targets of the intake gate: every format, conversions, bundles, records, terms, verdicts, reviews, attachments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from fuzz.targets.makers import vectors
from fuzz.targets.target import Target
from strongroom.core.canonical import encode
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId, PersonId
from strongroom.intake.attachments import read_attachment
from strongroom.intake.folder import Entry, EntryKind, check_folder
from strongroom.intake.formats.conversion import convert, convert_index
from strongroom.intake.formats.identify import Format, check_file
from strongroom.intake.reviews import Decision, Review
from strongroom.intake.source import BytesSource
from strongroom.intake.statements import read_bundle, read_manifest
from strongroom.intake.states import Record, State, begin
from strongroom.intake.verdict import DeliveredFile, FileList, Verdict
from strongroom.quarantine.adapters.channel import READ, Frame, send
from strongroom.quarantine.adapters.reading import Reader
from strongroom.quarantine.terms import GateRules, Scanner, SignatureTerms, Terms, read_rules
from strongroom.release.intake_statements import IntakeRecord
from support.delivered import checkpoint_file, delivery
from support.model_signing import Signing
from support.pickle_corpus import corpus

_AT: Final[Instant] = 1_800_000_000


class _Said:
    """What a reader behind the walls says to the gate; what the gate says is dropped."""

    def __init__(self, data: bytes) -> None:
        self._left, self.written = BytesIO(data), bytearray()

    def recv_into(self, buffer: memoryview, /) -> int:
        return self._left.readinto(buffer)

    def sendall(self, data: bytes, /) -> None:
        self.written += data


def _reader(data: bytes) -> Reader:
    return Reader(_Said(data), {"m.bin": BytesSource(bytes(10))})


def _reader_converts(data: bytes) -> None:
    reader = _reader(data)
    assert sum(map(len, reader.pieces("m.bin", reader.convert("m.bin")))) < len(data)


def _frames(*frames: tuple[Frame, bytes]) -> bytes:
    said = _Said(b"")
    for kind, data in frames:
        send(said, kind, data)
    return bytes(said.written)


def _verdict_frames() -> list[bytes]:
    verdict = encode({"m.bin": {"format": "torch-zip", "facts": {"tensors": 1}}})
    refused = encode({"rule": "form", "message": "no", "remedy": ""})
    return [_frames((Frame.READ, READ.pack(0, 3, 4)), (Frame.ANSWER, verdict)), _frames((Frame.REFUSED, refused))]


def _piece_frames() -> list[bytes]:
    return [_frames((Frame.ANSWER, encode({"size": 3})), (Frame.PIECE, b"abc"), (Frame.ANSWER, encode({})))]


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
    return Review(
        genesis=digest,
        delivery="0" * 32,
        reviewer=PersonId("olga"),
        artifact=digest,
        records=digest,
        decision=Decision.ACCEPT,
    )


def _converted(data: bytes) -> None:
    found = convert(BytesSource(data), "a.pt")
    if sum(len(piece) for piece in found.pieces()) != found.size:
        raise AssertionError


def _scanner() -> Scanner:
    return Scanner(
        name="looker",
        version="1",
        program="/opt/looker/bin/look",
        digest=Digest.of(b"look"),
        arguments=("--strict",),
        roots=("/opt/looker",),
        formats=frozenset({Format.PICKLE, Format.TORCH_ZIP}),
        seconds=60,
        memory=1 << 30,
    )


def _terms() -> Terms:
    digest = Digest.of(b"x")
    signature = SignatureTerms(
        bundle=digest,
        keys=(digest,),
        anchors=(),
        signers=("CN=signer",),
        trusted_root=None,
        identity="release@supplier.example",
        issuer=None,
    )
    return Terms(
        genesis=digest,
        delivery="0" * 32,
        model=ModelId("atlas"),
        leave_out=frozenset({".git"}),
        signature=signature,
        attachments=(digest,),
        rules=GateRules(reviews=2, scanners=(_scanner(),)),
        converted_from=digest,
    )


def _signing() -> Signing:
    return Signing(key=ec.derive_private_key(1, ec.SECP256R1()), files={"config.json": b"{}", "a.gguf": b"weights"})


def _signed_record() -> IntakeRecord:
    return IntakeRecord(genesis=Digest.of(b"genesis"), record=_verdict().records[0])


def _seed(data: bytes) -> Callable[[], tuple[bytes, ...]]:
    return lambda: (data,)


def _same(
    read: Callable[[bytes], FileList | IntakeRecord | Record | Review | Terms | Verdict],
) -> Callable[[bytes], None]:
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
            read=_bundle, seeds=lambda: (_signing().bundle(), *vectors("../oms/v1.0/*/*.json")), changes=200
        ),
        "intake-manifest": Target(
            read=read_manifest,
            seeds=lambda: [
                _signing().payload(),
                *(read_bundle(one).payload for one in vectors("../oms/v1.0/valid/*.json")),
            ],
        ),
        "intake-names": Target(read=_names, seeds=lambda: (b"a.gguf\nb/c.json\nd.txt",), longest=4096),
        "intake-record": Target(read=_same(Record.parse), seeds=lambda: [one.to_bytes() for one in _verdict().records]),
        "intake-file-list": Target(read=_same(FileList.parse), seeds=lambda: (_files().to_bytes(),)),
        "intake-verdict": Target(read=_same(Verdict.parse), seeds=lambda: (_verdict().to_bytes(),)),
        "intake-review": Target(read=_same(Review.parse), seeds=lambda: (_review().to_bytes(),)),
        "intake-signed-record": Target(read=_same(IntakeRecord.parse), seeds=lambda: (_signed_record().to_bytes(),)),
        "intake-terms": Target(read=_same(Terms.parse), seeds=lambda: (_terms().to_bytes(),)),
        "intake-rules": Target(read=read_rules, seeds=lambda: (encode(_terms().rules.to_json()),)),
        "intake-conversion": Target(read=_converted, seeds=lambda: (checkpoint_file(),), longest=8192),
        "intake-reader-judges": Target(read=lambda data: _reader(data).judge(), seeds=_verdict_frames, longest=4096),
        "intake-reader-converts": Target(read=_reader_converts, seeds=_piece_frames, longest=4096),
        "intake-index": Target(
            read=lambda data: convert_index(BytesSource(data), "a.json"),
            seeds=lambda: (b'{"metadata":{},"weight_map":{"a":"pytorch_model.bin"}}',),
            longest=4096,
        ),
        "intake-attachment": Target(
            read=read_attachment, seeds=lambda: (b'{"bomFormat":"CycloneDX","specVersion":"1.6"}',), longest=4096
        ),
    }
)
