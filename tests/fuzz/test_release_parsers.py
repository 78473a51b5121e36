"""Whatever bytes arrive at the keeper, its parsers answer with a value or with an error of ours, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache

from hypothesis import example, given
from hypothesis import strategies as st

from strongroom.access.facts import Facts
from strongroom.access.policy import Policy
from strongroom.access.request import LogHead, Request
from strongroom.attestation.evidence import Evidence
from strongroom.client.default_policy import default_policy
from strongroom.client.keys_shown import EpochShown, KekShown
from strongroom.core.canonical import Json, parse
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId, PlatformId
from strongroom.ipc import frames
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.pins import Pins
from strongroom.personnel.enrolment import Enrolment
from strongroom.personnel.roster import Roster
from strongroom.personnel.statements import (
    AccessDecision,
    AccessReview,
    BreakGlassReview,
    Erasure,
    Objection,
    Outcome,
)
from strongroom.personnel.vetting import VettingRecord
from strongroom.release.attested import Attested
from strongroom.release.decided import Decided
from strongroom.release.delivery import Delivery
from strongroom.release.dossier import Dossier
from strongroom.release.key_orders import KeyAct, KeyOrder
from strongroom.release.lease import Lease, LeaseAsk, LeaseProof, Sampling
from support.deployment import PEOPLE, person, rules, vetting
from support.facts import NOW, good
from support.room import found_room

PARSERS: dict[str, Callable[[bytes], object]] = {
    "request": Request.parse,
    "roster": Roster.parse,
    "policy": Policy.parse,
    "vetting": VettingRecord.parse,
    "enrolment": Enrolment.parse,
    "erasure": Erasure.parse,
    "objection": Objection.parse,
    "break-glass-review": BreakGlassReview.parse,
    "access-review": AccessReview.parse,
    "facts": Facts.parse,
    "decided": Decided.parse,
    "genesis": Genesis.parse,
    "delivery": Delivery.parse,
    "pins": Pins.parse,
    "keyring": Keyring.parse,
    "key-order": KeyOrder.parse,
    "keys-shown": lambda data: EpochShown.read(Fields(parse(data), "epoch")),
    "kek-shown": lambda data: KekShown.read(Fields(parse(data), "kek")),
    "evidence": Evidence.parse,
    "attested": Attested.parse,
    "lease": Lease.parse,
    "lease-proof": lambda data: LeaseProof.read(Fields(parse(data), "proof")),
    "envelope": Envelope.parse,
    "call": frames.read_call,
    "answer": frames.read_answer,
    "dossier": lambda data: Dossier.read(Fields(parse(data), "dossier")),
}
texts = st.text(max_size=8) | st.sampled_from(
    ["", "sha256:" + "0" * 64, "2026-11-23T22:08:37Z", "AAAA", "dana", "seal", "\ud800", "tpm-" + "0" * 64]
)
values: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def answers(data: bytes) -> None:
    for read in PARSERS.values():
        try:
            read(data)
        except StrongroomError as error:
            # What an error says can always be told: as HTTP, and on the socket.
            frames.refusal(1, error)


@given(st.binary(max_size=300))
@example(b"\xff")
@example(b"[" * 100_000)
@example(b'{"a":' * 3000 + b"1" + b"}" * 3000)
@example(b"9" * 5000)
@example(b'{"id":1e400}')
@example(b'{"id":1,"op":"\\ud800"}')
def test_any_bytes(data: bytes) -> None:
    answers(data)


@cache
def samples() -> list[dict[str, Json]]:
    """Good objects of several kinds: what is nearly right reaches further into a parser."""
    founded = found_room()
    zero: dict[str, Json] = {"keyid": "k", "sig": "AAAA"}
    envelope: dict[str, Json] = {"payloadType": "t", "payload": "AAAA", "signatures": [zero]}
    key: Json = {"nonce": "AAAA", "ciphertext": "AAAA"}
    dossier: dict[str, Json] = {
        "request": envelope,
        "approvals": [envelope],
        "testimony": {"challenge": "c", "platform": envelope, "evidence": "AAAA"},
        "wrapped": {"data_key": "d", "kek": "k", "data": key},
        "recipient_key": "AAAA",
    }
    pins = Pins(
        genesis=founded.genesis.digest,
        log_size=1,
        log_root=Digest.of(b""),
        roster_epoch=1,
        policy_epoch=1,
        reference_values_epoch=1,
        latest=1_795_000_000,
    )
    genesis, digest, dana = founded.genesis.digest, Digest.of(b"x"), PersonId("dana")
    roster = Roster(genesis=genesis, epoch=1, predecessor=None, people=tuple(person(name) for name in PEOPLE))
    payloads = (
        founded.genesis.to_bytes(),
        founded.keyring.to_bytes(),
        KeyOrder(
            genesis=genesis,
            act=KeyAct.RESTORE,
            subject=digest,
            nonce=bytes(16),
            log=LogHead(size=1, root=digest),
            issued=NOW,
            expires=NOW + 9,
        ).to_bytes(),
        pins.to_bytes(),
        roster.to_bytes(),
        replace(default_policy(genesis), rules=rules()).to_bytes(),
        good().to_bytes(),
        vetting(genesis, "dana", at=NOW, until=NOW + 9).to_bytes(),
        Erasure(genesis=genesis, person=dana).to_bytes(),
        Objection(genesis=genesis, document=digest).to_bytes(),
        BreakGlassReview(genesis=genesis, request=digest, outcome=Outcome.JUSTIFIED, report=digest).to_bytes(),
        Attested(evidence=b"evidence", binding=b"{}", result="e30.e30.e30").to_bytes(),
        AccessReview(genesis=genesis, at=NOW, decisions=(AccessDecision(grant=digest, keep=True),)).to_bytes(),
        Lease(
            genesis=genesis,
            request=digest,
            platform=PlatformId("tpm-" + "0" * 64),
            ask=LeaseAsk(use=1, recipient=digest, serial=1, nonce=bytes(32)),
            issued=NOW,
            period=60,
            sampling=Sampling.WHOLE,
        ).to_bytes(),
    )
    made = [json.loads(data) for data in payloads]
    shown: dict[str, Json] = {"epoch": 1, "escrowed": True, "state": "active", "created": "2026-11-23T22:08:37Z"}
    kek: dict[str, Json] = {**shown, "model": "m", "kek": "k", "data_keys": 1}
    return [envelope, dossier, shown, kek, {"id": 1, "op": "release", "dossier": dossier}, {"id": 1, "ok": {}}, *made]


def test_the_good_objects_are_good() -> None:
    for sample in samples():
        payload = json.dumps(sample, sort_keys=True, separators=(",", ":")).encode()
        read = []
        for name, parser in PARSERS.items():
            with suppress(StrongroomError):
                parser(payload)
                read.append(name)
        assert read, sample


@given(st.data())
def test_a_good_object_with_one_member_made_odd(data: st.DataObject) -> None:
    sample = json.loads(json.dumps(data.draw(st.sampled_from(samples()))))
    spot = sample
    while True:
        name = data.draw(st.sampled_from(sorted(spot) or [""]))
        inside = spot.get(name)
        if isinstance(inside, list) and inside:
            inside = inside[0]
        if isinstance(inside, dict) and inside and data.draw(st.booleans()):
            spot = inside
            continue
        break
    act = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if act == "remove":
        spot.pop(name, None)
    else:
        spot[name if act == "replace" else "odd"] = data.draw(values)
    answers(json.dumps(sample, sort_keys=True, separators=(",", ":")).encode())
