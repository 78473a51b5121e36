"""Whatever bytes arrive at the keeper, its parsers answer with a value or with an error of ours, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

from hypothesis import example, given
from hypothesis import strategies as st

from strongroom.access.policy import Policy
from strongroom.access.request import Request
from strongroom.attestation.evidence import Evidence
from strongroom.core.canonical import Json, parse
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.ipc import frames
from strongroom.keeper.pins import Pins
from strongroom.keeper.vault import Keyring
from strongroom.personnel.roster import Roster
from strongroom.release.delivery import Delivery
from strongroom.release.dossier import Dossier
from support.room import found_room

PARSERS: dict[str, Callable[[bytes], object]] = {
    "request": Request.parse,
    "roster": Roster.parse,
    "policy": Policy.parse,
    "genesis": Genesis.parse,
    "delivery": Delivery.parse,
    "pins": Pins.parse,
    "keyring": Keyring.parse,
    "evidence": Evidence.parse,
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
        "wrapped": {"data_key": "d", "epoch": 1, "kek": key, "data": key},
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
    made = [json.loads(data) for data in (founded.genesis.to_bytes(), founded.keyring.to_bytes(), pins.to_bytes())]
    return [envelope, dossier, {"id": 1, "op": "release", "dossier": dossier}, {"id": 1, "ok": {}}, *made]


@given(st.data())
def test_a_good_object_with_one_member_made_odd(data: st.DataObject) -> None:
    sample = json.loads(json.dumps(data.draw(st.sampled_from(samples()))))
    spot = sample
    while True:
        name = data.draw(st.sampled_from(sorted(spot) or [""]))
        if isinstance(spot.get(name), dict) and spot[name] and data.draw(st.booleans()):
            spot = spot[name]
            continue
        break
    act = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if act == "remove":
        spot.pop(name, None)
    else:
        spot[name if act == "replace" else "odd"] = data.draw(values)
    answers(json.dumps(sample, sort_keys=True, separators=(",", ":")).encode())
