"""The broker's database belongs to the attacker: changed rows are handed on or refused, and never break the broker."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from strongroom.access.request import Action
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.release.dossier import Dossier
from support.brokers import MODEL, RunningBroker, approval, broker, manifest, request

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with broker(tmp_path_factory.mktemp("home")) as started:
        yield started


def attack(running: RunningBroker, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(running.database)) as database, database:
        assert database.execute(statement, values).rowcount > 0


def test_an_inserted_approval_reaches_the_keeper_to_be_judged(running: RunningBroker) -> None:
    caller, asked = running.caller(), request(running.genesis)
    assert caller.post("/v1/requests", {"request": asked.to_json()}).status == 200
    forged = approval(asked).to_bytes().decode()
    insert = "INSERT INTO approvals (request, kind, envelope, created) VALUES (?, 'approve', ?, 0)"
    attack(running, insert, str(asked.digest), forged)
    assert caller.get(f"/v1/requests/{asked.digest}/explanation").json["allowed"] is False
    dossier = running.keeper.handed[-1][1]
    assert isinstance(dossier, Dossier)
    assert [one.to_bytes().decode() for one in dossier.approvals] == [forged]


@pytest.mark.parametrize(
    "value",
    ["", "not json", "{}", '{"payloadType":"x"}', b"\xff\x00", 5, "\x00" * 9],
    ids=lambda value: repr(value)[:12],
)
def test_a_broken_row_stops_the_act_and_nothing_else(running: RunningBroker, value: object) -> None:
    caller, asked = running.caller(), request(running.genesis)
    caller.post("/v1/requests", {"request": asked.to_json()})
    insert = "INSERT INTO approvals (request, kind, envelope, created) VALUES (?, 'approve', ?, 0)"
    attack(running, insert, str(asked.digest), value)
    for answer in (
        caller.post(f"/v1/requests/{asked.digest}/control"),
        caller.get(f"/v1/requests/{asked.digest}"),
        caller.get(f"/v1/requests/{asked.digest}/explanation"),
    ):
        assert (answer.status, answer.json["code"]) == (422, "stored-row-malformed")
    assert ("control", asked.digest) not in [(op, getattr(c, "request", None)) for op, c in running.keeper.handed]
    assert caller.get("/v1/health/ready").status == 200


@pytest.mark.parametrize("column", ["created", "expires", "action", "requester"])
def test_a_row_of_another_type_is_refused(running: RunningBroker, column: str) -> None:
    caller, asked = running.caller(), request(running.genesis)
    caller.post("/v1/requests", {"request": asked.to_json()})
    attack(running, f"UPDATE requests SET {column} = x'00ff' WHERE digest = ?", str(asked.digest))  # noqa: S608 - ours
    assert caller.get(f"/v1/requests/{asked.digest}").json["code"] == "stored-row-malformed"
    attack(running, "DELETE FROM requests WHERE digest = ?", str(asked.digest))


def test_an_instant_beyond_all_calendars_is_refused(running: RunningBroker) -> None:
    caller, asked = running.caller(), request(running.genesis)
    caller.post("/v1/requests", {"request": asked.to_json()})
    attack(running, "UPDATE requests SET created = 9e18 WHERE digest = ?", str(asked.digest))
    assert caller.get("/v1/requests?state=all").json["code"] == "stored-row-malformed"
    attack(running, "UPDATE requests SET created = 9000000000000000000 WHERE digest = ?", str(asked.digest))
    assert caller.get("/v1/requests?state=all").json["code"] == "stored-row-malformed"
    attack(running, "DELETE FROM requests WHERE digest = ?", str(asked.digest))


def test_a_changed_wrapped_key_is_handed_on_or_refused(running: RunningBroker) -> None:
    caller = running.caller()
    body: Json = {"recipient_key": to_base64(bytes(1216))}
    asked = [request(running.genesis, Action.SEAL, version=1)]
    asked += [request(running.genesis, Action.EXPORT_PLAINTEXT, version=1) for _ in range(2)]
    for one in asked:
        caller.post("/v1/requests", {"request": one.to_json()})
    assert caller.post(f"/v1/requests/{asked[0].digest}/seal", body).status == 200
    swap = 'UPDATE wrapped_keys SET body = replace(body, \'"kek":"5e\', \'"kek":"77\') WHERE model = ?'
    attack(running, swap, MODEL)
    assert caller.post(f"/v1/requests/{asked[1].digest}/export", body).status == 200
    dossier = running.keeper.handed[-1][1]
    assert isinstance(dossier, Dossier)
    assert dossier.wrapped is not None
    assert dossier.wrapped.kek == "77" + "5e" * 15
    attack(running, "UPDATE wrapped_keys SET body = '[]' WHERE model = ?", MODEL)
    answer = caller.post(f"/v1/requests/{asked[2].digest}/export", body)
    assert (answer.status, answer.json["code"]) == (422, "stored-row-malformed")
    attack(running, "DELETE FROM wrapped_keys")


def test_a_taken_request_is_put_back_by_submitting_it(running: RunningBroker) -> None:
    caller, asked = running.caller(), request(running.genesis)
    first = caller.post("/v1/requests", {"request": asked.to_json()})
    attack(running, "DELETE FROM requests WHERE digest = ?", str(asked.digest))
    gone = caller.post(f"/v1/requests/{asked.digest}/approvals", {"envelope": approval(asked).to_json()})
    assert (gone.status, gone.json["code"]) == (404, "not-found")
    again = caller.post("/v1/requests", {"request": asked.to_json()})
    assert again.json["index"] == first.json["index"]


def test_a_manifest_of_no_form_is_refused(running: RunningBroker) -> None:
    made = manifest(running.genesis, "dk")
    body: Json = {"manifest": made.to_json(), "request": str(Digest.of(b"r"))}
    assert running.caller().post("/v1/manifests", body).status == 200
    attack(running, "UPDATE manifests SET envelope = '{}'")
    answer = running.caller().get(f"/v1/manifests/{MODEL}/1")
    assert (answer.status, answer.json["code"]) == (422, "stored-row-malformed")


def test_an_approval_of_another_request_is_refused(running: RunningBroker) -> None:
    caller, asked, other = running.caller(), request(running.genesis), request(running.genesis)
    for one in (asked, other):
        caller.post("/v1/requests", {"request": one.to_json()})
    answer = caller.post(f"/v1/requests/{asked.digest}/approvals", {"envelope": approval(other).to_json()})
    assert (answer.status, answer.json["code"]) == (400, "usage")
