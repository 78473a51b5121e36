"""Root holders sign with security keys as with key files; keeper and log, which nobody touches, don't."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulators.security_key import SoftwareSecurityKey
from strongroom.client.adapters.security_key import SecurityKeySigner
from strongroom.core.envelope import Envelope, Signature, sign
from strongroom.core.errors import MalformedError
from strongroom.core.genesis import Genesis
from strongroom.core.signature import Ed25519Signer, HybridSigner, SignatureError
from strongroom.personnel.roster import ROSTER_TYPE, Roster
from support.cosigners import LOG_COSIGNER
from support.security_keys import Parts, Ports, pin_of, seeded_p256

FILE = Ed25519Signer.from_seed(b"f" * 32)


@pytest.fixture
def holder(monkeypatch: pytest.MonkeyPatch) -> SecurityKeySigner:
    device = SoftwareSecurityKey()
    keys = Ports(monkeypatch, {"first": device, "second": SoftwareSecurityKey()}).enrol()[1]
    return SecurityKeySigner(keys, pin_of(device.pin))


@pytest.fixture
def genesis(holder: SecurityKeySigner) -> Genesis:
    return Genesis(
        deployment="test",
        created=1_795_471_717,
        root_keys=(holder.public_key, FILE.public_key),
        root_threshold=2,
        keeper_key=FILE.public_key,
        log_origin="strongroom/test",
        log_key=FILE.public_key,
        log_cosigner=LOG_COSIGNER,
    )


def roster(genesis: Genesis) -> bytes:
    return Roster(genesis=genesis.digest, epoch=1, predecessor=None, people=()).to_bytes()


def test_a_security_key_and_a_key_file_make_a_quorum(genesis: Genesis, holder: SecurityKeySigner) -> None:
    assert Genesis.parse(genesis.to_bytes()) == genesis
    envelope = sign(ROSTER_TYPE, roster(genesis), holder, FILE)
    genesis.verify_root(Envelope.parse(envelope.to_bytes()), ROSTER_TYPE)
    for one in (holder, FILE):
        with pytest.raises(SignatureError):
            genesis.verify_root(sign(ROSTER_TYPE, roster(genesis), one), ROSTER_TYPE)


def test_a_signature_moved_to_another_document_is_refused(genesis: Genesis, holder: SecurityKeySigner) -> None:
    envelope = sign(ROSTER_TYPE, roster(genesis), holder, FILE)
    other = Roster(genesis=genesis.digest, epoch=1, predecessor=None, people=()).to_bytes() + b" "
    with pytest.raises(SignatureError):
        genesis.verify_root(Envelope(ROSTER_TYPE, other, envelope.signatures), ROSTER_TYPE)


def test_bytes_of_any_length_in_a_signature_s_place_are_refused(genesis: Genesis, holder: SecurityKeySigner) -> None:
    envelope = sign(ROSTER_TYPE, roster(genesis), FILE)
    for value in (b"", bytes(64), bytes(3373), bytes(8192)):
        forged = replace(envelope, signatures=(*envelope.signatures, Signature(holder.public_key.key_id, value)))
        with pytest.raises(SignatureError):
            genesis.verify_root(forged, ROSTER_TYPE)


def test_keeper_and_log_sign_with_key_files(genesis: Genesis) -> None:
    security_key = Parts(seeded_p256()).public_key
    hybrid = HybridSigner.from_seed(b"h" * 32).public_key
    for wrong in (
        replace(genesis, keeper_key=security_key),
        replace(genesis, log_key=security_key),
        replace(genesis, root_keys=(hybrid, FILE.public_key)),
    ):
        with pytest.raises(MalformedError):
            Genesis.parse(wrong.to_bytes())
