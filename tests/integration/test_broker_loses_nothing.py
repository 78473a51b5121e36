"""What the broker was given is there after a crash at the worst moment, or its giver was never told that it was.

The broker is killed with SIGKILL between the keeper's answer and its own write. Requests, approvals and manifests are
in the log by then: posting them again stores them. A data key whose wrapped form was lost was never delivered, so no
weights can have been sealed under it; its request is spent, and another one makes another key.
"""

from __future__ import annotations

import http.client
import signal
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import closing

import pytest

from strongroom.access.request import Action
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.ids import ModelId
from strongroom.release.dossier import Dossier
from support.brokers import MODEL, Answer, Caller, RunningBroker, approval, broker, manifest, request

pytestmark = pytest.mark.integration
RECIPIENT = to_base64(bytes(1216))


def rows(running: RunningBroker, table: str, column: str, value: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(running.database)) as database:
        found = database.execute(f"SELECT * FROM {table} WHERE {column} = ?", (str(value),))  # noqa: S608 - our names
        return found.fetchall()


def log_size(running: RunningBroker) -> int:
    size = running.caller().get("/v1/log/checkpoint").json["size"]
    assert isinstance(size, int)
    return size


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with broker(tmp_path_factory.mktemp("home")) as started:
        yield started


def dies(running: RunningBroker, method: str, path: str, body: Json) -> None:
    """Post to another broker of the same home that dies in its store's ``method``: no answer comes."""
    other = RunningBroker(running.home, running.genesis, running.keeper)
    other.start(dies_in=method)
    caller = other.caller("crash")
    with pytest.raises((http.client.HTTPException, ssl.SSLError, OSError)):
        caller.post(path, body)
    assert other.stop() == -signal.SIGKILL


def test_a_request_is_stored_when_it_is_submitted_again(running: RunningBroker) -> None:
    asked = request(running.genesis)
    dies(running, "put_request", "/v1/requests", {"request": asked.to_json()})
    assert rows(running, "requests", "digest", asked.digest) == []
    size = log_size(running)
    again = running.caller().post("/v1/requests", {"request": asked.to_json()})
    assert again.status == 200
    # Its record was found in the log, and not written a second time.
    assert again.json["index"] == size - 1
    assert log_size(running) == size
    shown = running.caller().get(f"/v1/requests/{asked.digest}")
    assert shown.json == {"request": asked.to_json(), "approvals": [], "denials": []}


def test_an_approval_is_stored_when_it_is_posted_again(running: RunningBroker) -> None:
    asked = request(running.genesis)
    body: Json = {"envelope": approval(asked).to_json()}
    assert running.caller().post("/v1/requests", {"request": asked.to_json()}).status == 200
    dies(running, "put_voice", f"/v1/requests/{asked.digest}/approvals", body)
    assert rows(running, "approvals", "request", asked.digest) == []
    assert running.caller().post(f"/v1/requests/{asked.digest}/approvals", body).status == 200
    assert len(rows(running, "approvals", "request", asked.digest)) == 1


def test_a_manifest_is_stored_when_it_is_posted_again(running: RunningBroker) -> None:
    model = ModelId("registered")
    made = manifest(running.genesis, "dk", model=model)
    body: Json = {"manifest": made.to_json(), "request": str(Digest.of(b"r"))}
    dies(running, "put_manifest", "/v1/manifests", body)
    again = running.caller().post("/v1/manifests", body)
    assert (again.status, again.json["index"]) == (200, log_size(running) - 1)
    assert running.caller().get(f"/v1/manifests/{model}/1").json == {"manifest": made.to_json()}


def test_a_document_is_stored_when_it_is_posted_again(running: RunningBroker) -> None:
    # Any signed object with an epoch: what it says is the keeper's to judge.
    document: Json = {"payloadType": "t", "payload": to_base64(b'{"epoch":1}'), "signatures": []}
    body: Json = {"envelope": document}
    dies(running, "put_document", "/v1/documents/roster", body)
    assert running.caller().post("/v1/documents/roster", body).json == {"index": None, "effective": None}
    documents = running.caller().get("/v1/state").json["documents"]
    assert documents == {"roster": document}


def test_a_data_key_that_was_not_stored_was_not_delivered(running: RunningBroker) -> None:
    asked = request(running.genesis, Action.SEAL, model=ModelId("undelivered"), version=1)
    running.caller().post("/v1/requests", {"request": asked.to_json()})
    dies(running, "put_wrapped", f"/v1/requests/{asked.digest}/seal", {"recipient_key": RECIPIENT})
    assert rows(running, "wrapped_keys", "model", "undelivered") == []
    assert running.keeper.operations()[-1] == "seal"


def seal(running: RunningBroker, model: ModelId, version: int) -> Answer:
    asked = request(running.genesis, Action.SEAL, model=model, version=version)
    running.caller().post("/v1/requests", {"request": asked.to_json()})
    return running.caller().post(f"/v1/requests/{asked.digest}/seal", {"recipient_key": RECIPIENT})


def test_no_row_says_under_which_key_a_version_is_wrapped(running: RunningBroker) -> None:
    model = ModelId("grown")
    assert seal(running, model, 1).status == 200
    assert seal(running, model, 2).status == 200
    carried = [dossier for operation, dossier in running.keeper.handed if operation == "seal"][-2:]
    assert all(isinstance(dossier, Dossier) and dossier.wrapped is None for dossier in carried)
    assert len(rows(running, "wrapped_keys", "model", model)) == 2


def test_a_destroyed_models_rows_are_erased_and_no_others(running: RunningBroker) -> None:
    gone, stays = ModelId("gone"), ModelId("stays")
    for model in (gone, gone, stays):
        assert seal(running, model, 1).status == 200
    asked = request(running.genesis, Action.DESTROY, model=gone)
    running.caller().post("/v1/requests", {"request": asked.to_json()})
    path = f"/v1/requests/{asked.digest}/control"
    # The keys are gone by then. Rows that a crash leaves open nothing, and go when somebody asks what came of it.
    dies(running, "erase_wrapped", path, None)
    assert len(rows(running, "wrapped_keys", "model", gone)) == 2
    assert running.caller().post(f"/v1/destructions/{gone}", None).status == 200
    assert rows(running, "wrapped_keys", "model", gone) == []
    assert len(rows(running, "wrapped_keys", "model", stays)) == 1
    assert seal(running, gone, 1).status == 200
    assert running.caller().post(path, None).status == 200
    assert rows(running, "wrapped_keys", "model", gone) == []


def test_a_release_carries_the_key_that_the_manifest_names(running: RunningBroker) -> None:
    # Version 1 was sealed twice, and the first key is the one that was published.
    assert seal(running, MODEL, 1).status == seal(running, MODEL, 1).status == 200
    published, other = (str(row[0]) for row in rows(running, "wrapped_keys", "model", MODEL))
    body: Json = {"manifest": manifest(running.genesis, published).to_json(), "request": str(Digest.of(b"r"))}
    assert running.caller().post("/v1/manifests", body).status == 200
    released = release(running)
    assert released.status == 200
    dossier = running.keeper.handed[-1][1]
    assert isinstance(dossier, Dossier)
    assert dossier.wrapped is not None
    assert dossier.wrapped.data_key == published != other
    assert dossier.testimony is not None
    assert dossier.testimony.evidence == b"evidence"


def release(running: RunningBroker) -> Answer:
    people, enclave = running.caller(), running.caller("gpu-1", enclave=True)
    began = enclave.post("/v1/enrolments", {"enrolment": to_base64(b"{}")})
    platform = str(began.json["platform"])
    record = enclave.post(f"/v1/enrolments/{began.json['session']}", {"answer": to_base64(b"s")}).json["platform"]
    assert enclave.get("/v1/platforms").json["platforms"] == [{"platform": platform, "record": record}]
    asked = request(running.genesis, Action.SEAL, version=1)
    people.post("/v1/requests", {"request": asked.to_json()})
    challenged = enclave.post(f"/v1/requests/{asked.digest}/challenges", {"platform": platform})
    body = {"challenge": challenged.json["challenge"], "platform": platform, "evidence": to_base64(b"evidence")}
    return enclave.post(f"/v1/requests/{asked.digest}/release", body)


def test_posting_again_answers_the_same(running: RunningBroker) -> None:
    caller, asked = running.caller(), request(running.genesis)
    submit: Json = {"request": asked.to_json()}
    said: Json = {"envelope": approval(asked).to_json()}
    place = f"/v1/requests/{asked.digest}/approvals"
    assert caller.post("/v1/requests", submit).json == caller.post("/v1/requests", submit).json
    assert caller.post(place, said).json == caller.post(place, said).json
    voices = [carried for operation, carried in running.keeper.handed if operation == "approve"]
    assert sum(isinstance(voice, Envelope) and voice.digest == asked.digest for voice in voices) == 1
    assert len(rows(running, "approvals", "request", asked.digest)) == 1


def test_it_stops_cleanly_and_starts_on_what_it_kept(running: RunningBroker) -> None:
    caller, asked = running.caller(), request(running.genesis)
    assert caller.post("/v1/requests", {"request": asked.to_json()}).status == 200
    assert running.stop() == 0
    running.start()
    assert running.caller().get(f"/v1/requests/{asked.digest}").status == 200


def test_lists_show_what_is_open_newest_first_in_pages(running: RunningBroker) -> None:
    caller = running.caller()
    before = listed_everything(caller)
    with closing(sqlite3.connect(running.database)) as database, database:
        # Those of one second stand in no order that a test could know.
        database.execute("UPDATE requests SET created = created - 60")
    asked = [request(running.genesis) for _ in range(5)]
    for one in asked:
        assert caller.post("/v1/requests", {"request": one.to_json()}).status == 200
    acted = caller.post(f"/v1/requests/{asked[0].digest}/control")
    assert acted.status == 200
    denied = caller.post(f"/v1/requests/{asked[1].digest}/denials", {"envelope": approval(asked[1]).to_json()})
    assert denied.status == 200
    with closing(sqlite3.connect(running.database)) as database, database:
        database.execute("UPDATE requests SET expires = 1 WHERE digest = ?", (str(asked[2].digest),))
    pages: list[str] = []
    cursor = ""
    while True:
        page = caller.get(f"/v1/requests?limit=1&cursor={cursor}").json
        pages += digests(page)
        if page["next"] is None:
            break
        cursor = str(page["next"])
    new = [digest for digest in pages if digest not in before]
    assert sorted(new) == sorted(str(one.digest) for one in asked[3:])
    assert pages[:2] == new
    assert len(listed_everything(caller)) == len(before) + 5


def listed_everything(caller: Caller) -> list[str]:
    return digests(caller.get("/v1/requests?state=all&limit=200").json)


def digests(page: dict[str, Json]) -> list[str]:
    listed = page["requests"]
    assert isinstance(listed, list)
    return [str(one["digest"]) for one in listed if isinstance(one, dict)]
