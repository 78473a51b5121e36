"""As many keys approve a request as are looked at, each with its last word; who comes after is told, and may deny."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from strongroom.access.policy import MAX_APPROVALS
from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE
from strongroom.core.canonical import encode
from strongroom.core.envelope import Envelope, Signature, sign
from strongroom.core.signature import Ed25519Signer
from support.brokers import Answer, RunningBroker, broker, request

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with broker(tmp_path_factory.mktemp("home")) as started:
        yield started


def key(number: int) -> Ed25519Signer:
    return Ed25519Signer.from_seed(number.to_bytes(32, "big"))


def anew(asked: Envelope, number: int) -> Envelope:
    """Approve as a security key does, whose every signature is another one; no roster knows it here."""
    return Envelope(APPROVAL_TYPE, asked.payload, (Signature(key(number).public_key.key_id, os.urandom(64)),))


def submitted(running: RunningBroker) -> Envelope:
    asked = request(running.genesis)
    assert running.caller().post("/v1/requests", {"request": asked.to_json()}).status == 200
    return asked


def approve(running: RunningBroker, envelope: Envelope, number: int) -> Answer:
    caller = running.caller(f"approver-{number}")
    return caller.post(f"/v1/requests/{envelope.digest}/approvals", {"envelope": envelope.to_json()})


def shown(running: RunningBroker, asked: Envelope, kind: str) -> list[Envelope]:
    told = running.caller().get(f"/v1/requests/{asked.digest}").json[kind]
    assert isinstance(told, list)
    return [Envelope.parse(encode(one)) for one in told]


def test_the_last_word_of_each_key_is_looked_at(running: RunningBroker) -> None:
    asked = submitted(running)
    words = [anew(asked, 1) for _ in range(MAX_APPROVALS + 1)]
    for word in words:
        assert approve(running, word, 1).status == 200
    other = anew(asked, 2)
    assert approve(running, other, 2).status == 200
    assert shown(running, asked, "approvals") == [words[-1], other]


def test_one_more_than_are_looked_at_is_told_so_and_may_still_deny(running: RunningBroker) -> None:
    asked = submitted(running)
    words = [anew(asked, number) for number in range(MAX_APPROVALS)]
    for number, word in enumerate(words):
        assert approve(running, word, number).status == 200
    before = len(running.keeper.handed)
    late = approve(running, anew(asked, MAX_APPROVALS), MAX_APPROVALS)
    assert (late.status, late.json["code"]) == (409, "approvals-full")
    # Nothing of it came into the log: it would have been said to be counted.
    assert [operation for operation, _carried in running.keeper.handed[before:] if operation == "approve"] == []
    # Who approved before says it again, the same or anew.
    assert approve(running, words[0], 0).status == 200
    assert approve(running, anew(asked, 0), 0).status == 200
    denial = sign(DENIAL_TYPE, asked.payload, key(MAX_APPROVALS))
    answer = running.caller("late").post(f"/v1/requests/{asked.digest}/denials", {"envelope": denial.to_json()})
    assert answer.status == 200
    assert shown(running, asked, "denials") == [denial]
    assert len(shown(running, asked, "approvals")) == MAX_APPROVALS
