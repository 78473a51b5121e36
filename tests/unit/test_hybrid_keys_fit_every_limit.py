"""Keys of 2.7 kB and signatures of 3.4 kB pass each limit between a wallet and an enclave, also where much else is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.access.policy import MAX_APPROVALS
from strongroom.access.request import MAX_REQUEST_BYTES, Action
from strongroom.audit.entries import MAX_ENTRY, make_entry, read_entry
from strongroom.audit.facts import Fact, Producer
from strongroom.broker.bodies import EnvelopeBody, ManifestIn, SignatureBody
from strongroom.broker.gate import Limits
from strongroom.client.wallet import Identity
from strongroom.core.canonical import encode, parse
from strongroom.core.digest import Digest
from strongroom.core.envelope import MAX_PAYLOAD, MAX_SIGNATURES, Envelope, payload_type, sign
from strongroom.core.errors import MalformedError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.signature import MAX_KEY_TEXT, Ed25519Signer, HybridSigner, PublicKey
from strongroom.ipc.frames import MAX_CALL, call
from strongroom.personnel.roster import MAX_KEYS, MAX_ROLES, Person, Roster
from strongroom.release.delivery import CIPHERTEXT_LIMIT, Delivery
from strongroom.release.dossier import Dossier
from strongroom.sealing.manifest import MAX_OBJECTS, Manifest, ManifestObject, manifest_envelope
from support.logs import GENESIS, KEEPER

PLAIN, HYBRID = Ed25519Signer.from_seed(b"h" * 32), HybridSigner.from_seed(b"h" * 32)
KEY = HYBRID.public_key
LONGEST = "a" * 64
AT = 1_795_000_000


def hybrid(number: int) -> PublicKey:
    """Return a key that is a hybrid one by its form; making a real one each time would take long."""
    return replace(KEY, raw=KEY.raw[:32] + number.to_bytes(8, "big") * 244)


def largest_manifest() -> Manifest:
    def one(number: int) -> ManifestObject:
        digest = Digest.of(b"x")
        return ManifestObject(object_id=number.to_bytes(16, "big"), size=2**53 - 1, header=digest, root=digest)

    return Manifest(
        genesis=GENESIS.digest,
        model=ModelId(LONGEST),
        version=2**53 - 1,
        predecessor=Digest.of(b"p"),
        data_key_id="d" * 128,
        commitment=bytes(32),
        publisher=PersonId(LONGEST),
        index=one(MAX_OBJECTS),
        objects=tuple(one(number) for number in range(MAX_OBJECTS)),
    )


def person(number: int, *keys: PublicKey) -> Person:
    return Person(
        id=PersonId(f"{number:064}"),
        org="o" * 64,
        active=True,
        roles=frozenset(f"role-{role:043}" for role in range(MAX_ROLES)),
        keys=keys,
    )


def test_the_longest_text_of_a_key_is_the_limit() -> None:
    assert len(str(KEY)) == MAX_KEY_TEXT == 2666


def test_a_person_may_have_nothing_but_hybrid_keys() -> None:
    made = Roster(
        genesis=GENESIS.digest,
        epoch=1,
        predecessor=None,
        people=(person(1, *(hybrid(number) for number in range(MAX_KEYS))),),
    )
    assert Roster.parse(made.to_bytes()) == made


def test_a_hundred_publishers_of_the_longest_description_fit_in_a_roster() -> None:
    people = tuple(person(number, PLAIN.public_key, hybrid(number)) for number in range(100))
    plain = tuple(
        replace(one, keys=(replace(PLAIN.public_key, raw=number.to_bytes(32, "big")), one.keys[1]))
        for number, one in enumerate(people)
    )
    payload = Roster(genesis=GENESIS.digest, epoch=1, predecessor=None, people=plain).to_bytes()
    assert len(payload) < MAX_PAYLOAD
    envelope = sign(payload_type("roster.v1"), payload, PLAIN)
    assert Envelope.parse(envelope.to_bytes()) == envelope


def test_the_registration_of_a_version_fits_in_an_entry() -> None:
    facts: dict[str, Fact] = {
        "request": Digest.of(b"r"),
        "model": LONGEST,
        "version": 2**53 - 1,
        "manifest": Digest.of(b"m"),
        "predecessor": Digest.of(b"p"),
        "publisher": LONGEST,
        "publisher_key": KEY,
        "data_key": "d" * 128,
    }
    data = make_entry(
        EventName.VERSION_REGISTERED, at=AT, by=Producer.KEEPER, seq=2**53 - 1, facts=facts, signer=KEEPER
    )
    assert len(data) < 4096 < MAX_ENTRY
    assert read_entry(data).public_key("publisher_key") == KEY


def test_a_delivery_carries_the_key_beside_the_longest_of_everything() -> None:
    delivery = Delivery(
        genesis=GENESIS.digest,
        action=Action.OPEN_IN_ENCLAVE,
        request=Digest.of(b"r"),
        use=2**53 - 1,
        model=ModelId(LONGEST),
        version=2**53 - 1,
        manifest=Digest.of(b"m"),
        publisher_key=KEY,
        data_key="d" * 64,
        recipient=Digest.of(b"k"),
        log_index=2**53 - 1,
        checkpoint="c" * 16384,
        issued=AT,
        ciphertext=bytes(CIPHERTEXT_LIMIT),
    )
    assert Delivery.parse(delivery.to_bytes()) == delivery


def test_the_largest_manifest_passes_the_broker_and_the_keeper_s_socket() -> None:
    envelope = manifest_envelope(largest_manifest(), HYBRID)
    body = encode({"manifest": envelope.to_json(), "request": str(Digest.of(b"r"))})
    assert len(body) < Limits().signed_object
    assert ManifestIn.model_validate(parse(body)).manifest.envelope() == envelope
    sent = call(1, "register", {"manifest": envelope.to_json(), "request": str(Digest.of(b"r"))})
    assert len(sent) < MAX_CALL


def test_an_envelope_holds_as_many_hybrid_signatures_as_any() -> None:
    one = sign(payload_type("request.v1"), b"{}", HYBRID).signatures[0]
    envelope = Envelope(payload_type("request.v1"), b"{}", (one,) * MAX_SIGNATURES)
    assert Envelope.parse(envelope.to_bytes()) == envelope
    assert EnvelopeBody.model_validate(envelope.to_json()).envelope() == envelope
    shown = envelope.to_json()
    assert isinstance(shown, dict)
    assert isinstance(shown["signatures"], list)
    SignatureBody.model_validate(shown["signatures"][0])


def test_a_dossier_of_hybrid_approvals_passes_the_keeper_s_socket() -> None:
    request = sign(payload_type("request.v1"), b"r" * MAX_REQUEST_BYTES, HYBRID)
    dossier = Dossier(request=request, approvals=(request,) * MAX_APPROVALS)
    assert len(call(1, "release", {"dossier": dossier.to_json()})) < MAX_CALL


def test_an_identity_holds_both_keys() -> None:
    identity = Identity(
        person=PersonId(LONGEST), key=PLAIN.public_key, publishing_key=KEY, url="https://x", genesis=GENESIS.digest
    )
    assert Identity.parse(identity.to_bytes()) == identity


@pytest.mark.parametrize("member", ["keeper_key", "log_key", "root_keys"])
def test_a_genesis_takes_no_hybrid_key(member: str) -> None:
    changed = replace(GENESIS, **{member: (KEY,) if member == "root_keys" else KEY})  # type: ignore[arg-type]  # as typed
    with pytest.raises(MalformedError, match=r"a genesis names .*form `ed25519"):
        Genesis.parse(changed.to_bytes())
