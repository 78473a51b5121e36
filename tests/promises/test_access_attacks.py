"""The broker's database belongs to the attacker, the processes are real: no row makes the keeper hand anything out.

Each test shows first that the honest act works in this very deployment; then comes the attack, its refusal by name, and
a look at the log: nothing was handed out.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE, REQUEST_TYPE, Action, Request
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, Signature, sign
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.roster import ROSTER_TYPE
from support.brokers import Answer
from support.deployment import DAY, MODEL, signer
from support.occupied import OTHER, Machine, Occupied, occupied

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Occupied]:
    with occupied(tmp_path_factory.mktemp("occupied") / "home") as made:
        yield made


@pytest.fixture(scope="module")
def machine(house: Occupied, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    with SoftwareTPM(tmp_path_factory.mktemp("tpm")) as tpm:
        made = Machine(house, tpm)
        made.prepare()
        yield made


def exported(house: Occupied) -> tuple[Envelope, RecipientKey]:
    """Show that an export works here; return the request that was used."""
    key = RecipientKey()
    request = house.ask_export(key)
    house.approve(request)
    house.export(request, key)
    return request, key


@contextmanager
def nothing_handed_out(house: Occupied) -> Iterator[None]:
    before = house.handed_out()
    yield
    assert house.handed_out() == before


def refused(answer: Answer, code: str) -> None:
    assert (answer.status >= 400, answer.json.get("code")) == (True, code), answer.text
    assert "delivery" not in answer.json


def approval_by(key: str, request: Envelope) -> Envelope:
    return sign(APPROVAL_TYPE, request.payload, signer(key))


# --- approvals --------------------------------------------------------------------------------------------------------


def test_a_forged_approval_row_is_refused(house: Occupied) -> None:
    exported(house)
    key = RecipientKey()
    request = house.ask_export(key)
    house.approve(request, "sam")
    forged = Envelope(APPROVAL_TYPE, request.payload, (Signature(signer("rina").public_key.key_id, os.urandom(64)),))
    house.forge_row(request, forged)
    with nothing_handed_out(house):
        refused(house.try_export(request, key), "approval-forged")


def test_a_genuine_approval_that_the_keeper_never_recorded_is_refused(house: Occupied) -> None:
    # Signed by rina's stolen key, and written into the database, so that the log doesn't show it.
    exported(house)
    key = RecipientKey()
    request = house.ask_export(key)
    house.approve(request, "sam")
    house.forge_row(request, approval_by("rina", request))
    with nothing_handed_out(house):
        refused(house.try_export(request, key), "approver-approval-not-recorded")


def test_a_key_added_to_somebody_in_the_database_s_roster_opens_nothing(house: Occupied) -> None:
    exported(house)
    people = tuple(
        replace(one, keys=(*one.keys, signer("mallory").public_key)) if one.id == "rina" else one
        for one in house.deployment.roster.people
    )
    roster = sign(ROSTER_TYPE, replace(house.deployment.roster, people=people).to_bytes(), signer("mallory"))
    ((kept,),) = house.execute("SELECT envelope FROM documents WHERE kind = 'roster'")
    key = RecipientKey()
    request = house.ask_export(key)
    house.approve(request, "sam")
    house.execute("UPDATE documents SET envelope = ? WHERE kind = 'roster'", roster.to_bytes().decode())
    try:
        house.forge_row(request, approval_by("mallory", request))
        with nothing_handed_out(house):
            refused(house.try_export(request, key), "approval-by-unknown-key")
    finally:
        house.execute("UPDATE documents SET envelope = ? WHERE kind = 'roster'", kept)
    # Nor is it adopted when it is handed in.
    refused(house.caller("dana").post("/v1/documents/roster", {"envelope": roster.to_json()}), "bad-signature")


def test_an_approval_is_for_one_request_and_counts_once(house: Occupied) -> None:
    used, used_key = exported(house)
    first = [json.loads(str(row[0])) for row in house.execute("SELECT envelope FROM approvals")]
    assert first
    # Another request for the same thing, by the same person: rina's approval of the first is moved over to it.
    key = RecipientKey()
    request = house.ask_export(key)
    house.approve(request, "sam")
    house.forge_row(request, approval_by("rina", used))
    with nothing_handed_out(house):
        refused(house.try_export(request, key), "approval-of-another-request")
    # Its approvers' own rows once more, for the spent request; and sam's twice in place of rina's.
    house.forge_row(used, approval_by("sam", used))
    with nothing_handed_out(house):
        refused(house.try_export(used, used_key), "grant-spent")
    alone = house.ask_export(key)
    house.approve(alone, "sam")
    house.forge_row(alone, approval_by("sam", alone))
    with nothing_handed_out(house):
        refused(house.try_export(alone, key), "one-person-twice")


def test_a_denial_row_turned_into_an_approval_is_refused(house: Occupied) -> None:
    exported(house)
    key = RecipientKey()
    request = house.ask_export(key)
    house.approve(request, "sam")
    denial = sign(DENIAL_TYPE, request.payload, signer("rina"))
    house.forge_row(request, Envelope(APPROVAL_TYPE, denial.payload, denial.signatures))
    with nothing_handed_out(house):
        refused(house.try_export(request, key), "approval-forged")
    house.execute("DELETE FROM approvals WHERE request = ? AND created = 1", str(request.digest))
    house.deny(request, "rina")
    house.execute("UPDATE approvals SET kind = 'approve' WHERE request = ? AND kind = 'deny'", str(request.digest))
    with nothing_handed_out(house):
        refused(house.try_export(request, key), "approval-forged")
    # With the denial's row gone and a good approval in its place, the log still holds the denial.
    house.execute("DELETE FROM approvals WHERE request = ? AND envelope LIKE '%denial%'", str(request.digest))
    house.approve(request, "rina")
    with nothing_handed_out(house):
        refused(house.try_export(request, key), "request-denied")


def test_an_approved_request_serves_no_other_recipient(house: Occupied) -> None:
    exported(house)
    key, thief = RecipientKey(), RecipientKey()
    request = house.ask_export(key)
    house.approve(request)
    with nothing_handed_out(house):
        refused(house.try_export(request, thief), "other-recipient")
    # The thief's key written into the approved request: nobody signed that.
    swapped = replace(Request.parse(request.payload), recipient=thief.digest)
    changed = Envelope(REQUEST_TYPE, swapped.to_bytes(), request.signatures)
    house.execute("UPDATE requests SET envelope = ? WHERE digest = ?", changed.to_bytes().decode(), str(request.digest))
    with nothing_handed_out(house):
        refused(house.try_export(request, thief), "bad-signature")
    house.execute("UPDATE requests SET envelope = ? WHERE digest = ?", request.to_bytes().decode(), str(request.digest))
    house.export(request, key)


def test_nobody_approves_their_own_request_not_even_by_a_row(house: Occupied) -> None:
    exported(house)
    key = RecipientKey()
    request = house.ask_export(key)
    house.approve(request)
    own = approval_by("dana", request)
    path = f"/v1/requests/{request.digest}/approvals"
    refused(house.caller("dana").post(path, {"envelope": own.to_json()}), "self-approval")
    house.forge_row(request, own)
    with nothing_handed_out(house):
        # Two others agreed as well: the attempt alone refuses.
        refused(house.try_export(request, key), "self-approval")
    house.execute("DELETE FROM approvals WHERE request = ? AND created = 1", str(request.digest))
    house.export(request, key)


def test_one_person_in_both_roles_fills_one_place(house: Occupied) -> None:
    exported(house)
    key = RecipientKey()
    request = house.ask_export(key)
    house.approve(request, "both")
    with nothing_handed_out(house):
        refused(house.try_export(request, key), "quorum-not-met")
    house.approve(request, "sam")
    house.export(request, key)


# --- people -----------------------------------------------------------------------------------------------------------


def test_vetting_that_lapses_after_the_approval_takes_it_along(house: Occupied) -> None:
    exported(house)
    key = RecipientKey()
    request = house.ask_export(key)
    now = int(time.time())
    house.vet("rina", adjudicated_on=now - DAY, expires_on=now + 3)
    house.approve(request)
    # Nothing happens but time: nobody hands in anything, no row changes.
    time.sleep(max(0.0, now + 3.1 - time.time()))
    with nothing_handed_out(house):
        refused(house.try_export(request, key), "approver-vetting-lapsed")
    house.vet("rina")
    house.export(request, key)


def test_a_leaver_with_a_live_grant_gets_nothing_more(house: Occupied, machine: Machine) -> None:
    request = machine.ask(max_uses=9)
    house.approve(request)
    machine.open(request)
    running = machine.open(request)
    assert machine.try_renew(running, 1).status == 200
    fell = house.deployment.call("suspend", person="dana", cause="left")
    assert fell["grants"]
    assert fell["leases"] == 2
    house.execute("UPDATE requests SET closed = NULL, expires = expires + 86400 WHERE requester = 'dana'")
    with nothing_handed_out(house):
        refused(machine.try_open(request, RecipientKey()), "requester-inactive")
        refused(machine.try_renew(running, 2), "requester-inactive")
    asking = house.unsubmitted(Action.FREEZE)
    refused(house.caller("sam").post("/v1/requests", {"request": asking.to_json()}), "person-inactive")
    house.vet("dana")
    house.admitted("dana")
    # Whoever comes back asks anew for what was running: an ended lease is no more.
    refused(machine.try_renew(running, 3), "requester-inactive")


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_wrapped_key_of_another_model_opens_nothing(house: Occupied, machine: Machine) -> None:
    request = machine.ask(max_uses=9)
    house.approve(request)
    machine.open(request)
    bodies = {row[0]: row[1] for row in house.execute("SELECT model, body FROM wrapped_keys WHERE version = 1")}
    ours, theirs = (json.loads(str(bodies[model])) for model in (MODEL, OTHER))
    # The whole row, and each part of it with the name that the log knows left in place.
    for stolen in (theirs, {**ours, "data": theirs["data"]}, {**ours, "kek": theirs["kek"], "data": theirs["data"]}):
        house.execute("UPDATE wrapped_keys SET body = ? WHERE model = ?", json.dumps(stolen), MODEL)
        with nothing_handed_out(house):
            refused(machine.try_open(request, RecipientKey()), "wrapped-key-refused")
    house.execute("UPDATE wrapped_keys SET body = ? WHERE model = ?", bodies[MODEL], MODEL)
    # What was refused spent no use, and the keeper goes on.
    machine.open(request)


def test_a_seal_request_hands_out_one_new_key_and_never_an_old_one(house: Occupied) -> None:
    key = RecipientKey()
    request = house.ask(Action.SEAL, version=2, recipient=key.digest)
    body: Json = {"recipient_key": to_base64(key.public)}
    before = house.execute("SELECT count(*) FROM wrapped_keys")
    house.post(f"requests/{request.digest}/seal", body)
    assert house.execute("SELECT count(*) FROM wrapped_keys") != before
    house.execute("UPDATE requests SET closed = NULL WHERE digest = ?", str(request.digest))
    refused(house.caller("dana").post(f"/v1/requests/{request.digest}/seal", body), "grant-spent")


# --- what the database doesn't hold -----------------------------------------------------------------------------------


def test_the_database_holds_nobody_s_vetting_and_no_statement(house: Occupied) -> None:
    # What isn't there can't be changed there: who is cleared is in the keeper's folder and in the log.
    house.vet("dana", conflict="HR-CASE-77", case="CASE-4711")
    house.vet("dana")
    tables = {str(name) for (name,) in house.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert not tables & {"people", "statements", "vetting", "decisions", "suspensions"}
    folder = house.running.database.parent
    data = b"".join(path.read_bytes() for path in sorted(folder.glob("broker.db*")))
    assert str(house.manifests[MODEL]).encode() in data
    for told in (b"vetting", b"HR-CASE-77", b"CASE-4711", b"suspended"):
        assert told not in data


def test_nothing_that_a_chat_button_could_send_approves(house: Occupied) -> None:
    exported(house)
    key = RecipientKey()
    request = house.ask_export(key)
    house.approve(request, "sam")
    path, rina = f"/v1/requests/{request.digest}/approvals", house.caller("rina")
    # Her own session, her own certificate, and everything but her signature over the request's bytes.
    unsigned = Envelope(APPROVAL_TYPE, request.payload, ()).to_json()
    digest = sign(APPROVAL_TYPE, str(request.digest).encode(), signer("rina")).to_json()
    another = sign(REQUEST_TYPE, request.payload, signer("rina")).to_json()
    bodies: list[Json] = [None, {}, {"approve": True}]
    for body in (*bodies, *({"envelope": one} for one in (unsigned, digest, another))):
        answer = rina.post(path, body)
        assert 400 <= answer.status < 500, answer.text
    for verb in ("approve", "approvals?approve=1", f"approvals/{Digest.of(b'x')}"):
        assert rina.post(f"/v1/requests/{request.digest}/{verb}").status in {400, 404, 405, 422}
        assert rina.get(f"/v1/requests/{request.digest}/{verb}").status in {404, 405}
    with nothing_handed_out(house):
        refused(house.try_export(request, key), "quorum-not-met")


def test_a_row_of_another_home_moves_nothing(house: Occupied) -> None:
    # A second deployment with people of the same names and keys: what they signed there is worth nothing here.
    exported(house)
    key = RecipientKey()
    foreign = replace(Request.parse(house.unsubmitted(Action.FREEZE).payload), genesis=Digest.of(b"another"))
    envelope = sign(REQUEST_TYPE, foreign.to_bytes(), signer("dana"))
    refused(house.caller("dana").post("/v1/requests", {"request": envelope.to_json()}), "other-deployment")
    # Written into the database as if it had been taken here, and carried out.
    here = house.ask(Action.FREEZE)
    house.execute("UPDATE requests SET envelope = ? WHERE digest = ?", envelope.to_bytes().decode(), str(here.digest))
    refused(house.caller("dana").post(f"/v1/requests/{here.digest}/control"), "other-deployment")
    assert house.deployment.call("status")["frozen"] == []
    request = house.ask_export(key)
    house.approve(request)
    house.export(request, key)
