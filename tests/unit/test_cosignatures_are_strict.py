"""Cosignatures: a known key's line verifies or the note is refused, unknown lines are ignored, keys have one form."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.cosignature import CosignatureKind, Cosigner, CosignerKey, cosign_note, read_cosignatures
from strongroom.audit.errors import CosignatureForgedError
from strongroom.audit.note import Note, NoteSignature, VerifierKey
from strongroom.core.errors import MalformedError
from support.cosigners import LOG_SEED, witness
from support.logs import AT, LOG_KEY, LOG_SIGNER, ORIGIN

CHECKPOINT = Checkpoint(ORIGIN, 7, b"\x07" * 32)
NOTE = Note.parse(CHECKPOINT.sign(LOG_SIGNER))


@pytest.fixture(params=list(CosignatureKind), ids=lambda kind: kind.name)
def cosigner(request: pytest.FixtureRequest) -> Cosigner:
    return witness(1, request.param)


def test_a_cosignature_says_who_and_when(cosigner: Cosigner) -> None:
    note = Note.parse(NOTE.signed_also((cosigner.cosign(CHECKPOINT, AT),)).to_bytes())
    (found,) = read_cosignatures(note, CHECKPOINT, (cosigner.key, witness(2).key))
    assert (found.key, found.at) == (cosigner.key, AT)
    assert CosignerKey.parse(str(cosigner.key)) == cosigner.key
    note.verify(LOG_KEY)


@pytest.mark.parametrize(
    "other",
    [
        replace(CHECKPOINT, size=8),
        replace(CHECKPOINT, origin="vault.example/log/2"),
        replace(CHECKPOINT, root=b"\x08" * 32),
    ],
    ids=["another size", "another log", "another root"],
)
def test_a_cosignature_holds_for_one_tree_of_one_log(cosigner: Cosigner, other: Checkpoint) -> None:
    line = cosigner.cosign(CHECKPOINT, AT)
    with pytest.raises(CosignatureForgedError) as caught:
        cosigner.key.verify(other, line.value)
    assert caught.value.reason == "cosignature-forged"


def test_every_byte_of_a_cosignature_counts(cosigner: Cosigner) -> None:
    value = cosigner.cosign(CHECKPOINT, AT).value
    for place in [*range(12), *range(12, len(value), 97), len(value) - 1]:
        changed = bytearray(value)
        changed[place] ^= 1
        with pytest.raises(CosignatureForgedError):
            cosigner.key.verify(CHECKPOINT, bytes(changed))
    for spoiled in (value[:-1], value + b"\0", b"", value[:8], b"\xff" * 8 + value[8:]):
        with pytest.raises(CosignatureForgedError):
            cosigner.key.verify(CHECKPOINT, spoiled)


def test_one_bad_line_by_a_known_key_refuses_the_note(cosigner: Cosigner) -> None:
    good, bad = cosigner.cosign(CHECKPOINT, AT), cosigner.cosign(replace(CHECKPOINT, size=9), AT)
    note = Note(NOTE.text, (*NOTE.signatures, good, bad))
    with pytest.raises(CosignatureForgedError):
        read_cosignatures(note, CHECKPOINT, (cosigner.key,))
    assert read_cosignatures(note, CHECKPOINT, (witness(2).key,)) == ()


def test_of_two_cosignatures_by_one_key_the_newest_counts(cosigner: Cosigner) -> None:
    lines = (cosigner.cosign(CHECKPOINT, AT + 5), cosigner.cosign(CHECKPOINT, AT))
    (found,) = read_cosignatures(Note(NOTE.text, lines), CHECKPOINT, (cosigner.key,))
    assert found.at == AT + 5


def test_a_line_of_the_same_name_and_another_id_is_ignored(cosigner: Cosigner) -> None:
    stranger = NoteSignature(cosigner.key.name, b"\0\0\0\0", b"\0" * 80)
    assert read_cosignatures(Note(NOTE.text, (stranger,)), CHECKPOINT, (cosigner.key,)) == ()


def test_a_signature_of_a_log_is_no_cosignature_of_the_same_key() -> None:
    """The same Ed25519 key under both types: another key id, and another message."""
    key = CosignerKey(ORIGIN, CosignatureKind.ED25519, LOG_SIGNER.public_key.raw)
    assert key.key_id != LOG_KEY.key_id
    assert read_cosignatures(NOTE, CHECKPOINT, (key,)) == ()
    line = NOTE.signatures[0]
    with pytest.raises(CosignatureForgedError):
        key.verify(CHECKPOINT, AT.to_bytes(8) + line.value)


def test_mldsa_binds_the_cosigners_name() -> None:
    one = witness(1)
    other = replace(one.key, name="witness.example/other")
    with pytest.raises(CosignatureForgedError):
        other.verify(CHECKPOINT, one.cosign(CHECKPOINT, AT).value)


def test_the_logs_own_cosigner_is_derived_and_not_the_same_seed() -> None:
    log = Cosigner.of_log(ORIGIN, LOG_SEED)
    assert log.key != Cosigner.from_seed(ORIGIN, CosignatureKind.ML_DSA_44, LOG_SEED).key
    note = Note.parse(cosign_note(NOTE.to_bytes(), log, AT))
    assert read_cosignatures(note, CHECKPOINT, (log.key,))[0].at == AT
    assert "seed" not in repr(log)
    assert LOG_SEED.hex() not in repr(log)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("+", " ", 1),
        lambda text: text.upper(),
        lambda text: text[:-4],
        lambda text: text + "=",
        lambda text: text.partition("+")[0],
        lambda text: "other" + text,
        lambda _text: str(LOG_KEY),
        lambda _text: "w+00000000+",
        lambda _text: "w+00000000+BA==",
        lambda _text: "",
    ],
)
def test_a_cosigners_key_has_one_form(cosigner: Cosigner, spoil: object) -> None:
    assert callable(spoil)
    with pytest.raises(MalformedError):
        CosignerKey.parse(spoil(str(cosigner.key)))


def test_names_too_long_for_one_byte_are_refused() -> None:
    with pytest.raises(MalformedError):
        CosignerKey("n" * 256, CosignatureKind.ED25519, witness(1, CosignatureKind.ED25519).key.raw)
    with pytest.raises(MalformedError):
        witness(1).cosign(replace(CHECKPOINT, origin="o" * 256), AT)
    with pytest.raises(MalformedError):
        witness(1).cosign(CHECKPOINT, 0)
    with pytest.raises(MalformedError):
        Cosigner.from_seed("w", CosignatureKind.ED25519, b"short")
    assert VerifierKey(ORIGIN, LOG_SIGNER.public_key) == LOG_KEY


_PRIME = 2**255 - 19
_ORDER_8 = int("7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7", 16)


@pytest.mark.parametrize("y", [0, 1, _PRIME - 1, _PRIME, _PRIME + 1, _ORDER_8, _PRIME - _ORDER_8])
@pytest.mark.parametrize("sign", [0, 1 << 255])
def test_a_key_that_anybody_can_sign_for_is_refused(y: int, sign: int) -> None:
    with pytest.raises(MalformedError):
        CosignerKey("witness.example/w", CosignatureKind.ED25519, (y | sign).to_bytes(32, "little"))
