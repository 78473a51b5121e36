"""Whatever bytes arrive, the log's parsers return a value or raise an error of ours: never anything else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit import protocol
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.checkpoint import Checkpoint, read_checkpoint
from strongroom.audit.cosignature import CosignatureKind, Cosigner, CosignerKey
from strongroom.audit.entries import read_entry
from strongroom.audit.merkle import Frontier, verify_consistency, verify_inclusion
from strongroom.audit.note import Note, VerifierKey, read_signature_lines
from strongroom.audit.proof_file import ProofFile
from strongroom.audit.tiles import Tile, decode_bundle, encode_bundle, hashes_of
from strongroom.audit.timestamp import verify_timestamp
from strongroom.audit.witness import Submission, judge
from strongroom.audit.witness_policy import WitnessPolicy, check_note, read_log_key
from strongroom.audit.witnessing import conflict_size, read_cosignature
from strongroom.core.canonical import Json, encode
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.ipc import frames
from support.cosigners import LOG_SEED, witness
from support.logs import AT, LOG_KEY, LOG_SIGNER, ORIGIN, sample_entry

NOTE = Checkpoint(ORIGIN, 1, b"\x01" * 32).sign(LOG_SIGNER)
ENTRY = sample_entry(EventName.RELEASED, 1)
CHECKPOINT = Checkpoint(ORIGIN, 1, b"\x01" * 32)
WITNESS, LOG_COSIGNER = witness(1, CosignatureKind.ED25519), Cosigner.of_log(ORIGIN, LOG_SEED).key
LINE = WITNESS.cosign(CHECKPOINT, AT)
COSIGNED = Note.parse(NOTE).signed_also((LINE,)).to_bytes()
TEXT = f"log {LOG_KEY}\nwitness W {WITNESS.key}\ngroup G all W\nquorum G\n".encode()
POLICY = WitnessPolicy.parse(TEXT)
SEEDS = [
    NOTE,
    ENTRY,
    encode_bundle([ENTRY, b""]),
    frames.frame({"id": 1, "op": "head"})[4:],
    str(LOG_KEY).encode(),
    COSIGNED,
    TEXT,
    str(WITNESS.key).encode(),
    LINE.line().encode(),
    Submission(old=0, proof=(), note=Note.parse(NOTE)).to_bytes(),
    ProofFile(index=0, hashes=(bytes(32),), checkpoint=COSIGNED, extra=b"x").to_bytes(),
]


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


PARSERS: list[Callable[[bytes], object]] = [
    Note.parse,
    lambda data: read_checkpoint(data, LOG_KEY),
    lambda data: Checkpoint.parse_text(text(data)),
    lambda data: VerifierKey.parse(text(data)),
    lambda data: Tile.parse(text(data)),
    decode_bundle,
    lambda data: hashes_of(data, 3),
    read_entry,
    lambda data: Frontier.from_bytes(3, data),
    lambda data: protocol.read_entries(frames.read_call(data).fields, most=9),
    frames.read_answer,
    lambda data: frames.frame_length(data[:4]),
    lambda data: FolderSource(Path("/nowhere")).read(text(data)),
    lambda data: CosignerKey.parse(text(data)),
    lambda data: read_log_key(text(data)),
    lambda data: read_signature_lines(text(data)),
    WitnessPolicy.parse,
    ProofFile.parse,
    Submission.parse,
    lambda data: judge(Submission.parse(data), (LOG_KEY, LOG_COSIGNER), None),
    lambda data: check_note(data, POLICY, now=AT),
    lambda data: read_cosignature(data, CHECKPOINT, WITNESS.key, now=AT),
    conflict_size,
    lambda data: verify_timestamp(data, b"message", (), now=AT),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(min_value=1, max_value=4))):
        at = draw(st.integers(min_value=0, max_value=max(0, len(data) - 1)))
        match draw(st.integers(min_value=0, max_value=2)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=3))
            case 1:
                del data[at : at + draw(st.integers(min_value=1, max_value=9))]
            case _:
                data[at:at] = draw(st.binary(min_size=1, max_size=9))
    return bytes(data)


@pytest.mark.parametrize("parse", PARSERS, ids=range(len(PARSERS)))
@given(st.one_of(st.binary(max_size=300), mutated()))
def test_arbitrary_bytes(parse: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(StrongroomError):
        parse(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(min_value=-(2**53) + 1, max_value=2**53 - 1) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=9,
)


@given(st.sampled_from(["v", "event", "at", "by", "seq", "facts", "sig", "request", "new"]), JSON)
def test_entry_with_any_member(name: str, value: Json) -> None:
    body = read_entry(ENTRY).to_json()
    target = body["facts"] if name == "request" else body
    assert isinstance(target, dict)
    target[name] = value
    with contextlib.suppress(StrongroomError):
        read_entry(encode(body))


@given(st.lists(st.sampled_from(["id", "op", "entries", "ok", "error"])), JSON)
def test_message_of_any_members(names: list[str], value: Json) -> None:
    data = encode(dict.fromkeys(names, value))
    for parse in (frames.read_call, frames.read_answer):
        with contextlib.suppress(StrongroomError):
            parse(data)


@given(
    st.integers(min_value=-2, max_value=70),
    st.integers(min_value=-2, max_value=70),
    st.lists(st.binary(min_size=31, max_size=33) | st.just(b"\x00" * 32), max_size=9),
)
def test_arbitrary_proofs(first: int, second: int, hashes: list[bytes]) -> None:
    leaf, root, *proof = [*hashes, b"\x00" * 32, b"\x00" * 32]
    with contextlib.suppress(StrongroomError):
        verify_inclusion(index=first, size=second, leaf=leaf, proof=proof, root=root)
    with contextlib.suppress(StrongroomError):
        verify_consistency(old=first, new=second, old_root=leaf, new_root=root, proof=proof)
