"""A recorded decision through the real broker, keeper and log writer: for auditors, and word for word the dry run's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.access.request import Action
from strongroom.audit.entries import read_entry
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64
from strongroom.core.envelope import sign
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.personnel.roster import ROSTER_TYPE, Person
from strongroom.release.decided import Decided
from support.brokers import RunningBroker, broker_beside
from support.deployment import ROOTS, Deployment, person, signer
from support.kept_records import decision_file

pytestmark = pytest.mark.integration
AUDITOR = Person(
    id=PersonId("olga"), org="audit", active=True, roles=frozenset({"auditor"}), keys=(signer("olga").public_key,)
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, RunningBroker]]:
    """A deployment with an auditor, whose broker has the roster stored."""
    with Deployment.found(tmp_path_factory.mktemp("home")) as founded:
        people = (*(person(name) for name in ("dana", "sam", "rina")), AUDITOR)
        founded.roster = replace(founded.roster, people=people)
        founded.start("log")
        founded.start("keeper")
        founded.adopt_first()
        broker = broker_beside(founded.home, founded.genesis)
        envelope = sign(ROSTER_TYPE, founded.roster.to_bytes(), *ROOTS[:2])
        assert broker.caller().post("/v1/documents/roster", {"envelope": envelope.to_json()}).status == 200
        yield founded, broker
        assert broker.stop() == 0


def test_a_refusal_is_shown_to_an_auditor_as_it_was_explained(running: tuple[Deployment, RunningBroker]) -> None:
    founded, broker = running
    dana, olga = broker.caller("dana"), broker.caller("olga")
    request = founded.request(Action.RESUME)
    # Recorded by the keeper itself a moment ago; now the broker has it too.
    assert dana.post("/v1/requests", {"request": request.to_json()}).status in {200, 409}
    dry = dana.get(f"/v1/requests/{request.digest}/explanation").json
    assert (dry["allowed"], dry["grant"]) == (False, None)
    refused = dana.post(f"/v1/requests/{request.digest}/control")
    assert (refused.status, refused.json["code"]) == (403, "quorum-not-met")
    # What was weighed stands in the record; who is refused isn't told more than the reason.
    assert "approver-security` by" not in refused.text

    entries = olga.get("/v1/log/entries?start=0&count=256").json["entries"]
    assert isinstance(entries, list)
    index = len(entries) - 1
    entry = read_entry(from_base64(str(entries[index])))
    shown = olga.get(f"/v1/releases/{index}/explanation").json
    assert (shown["checks"], shown["others"], shown["allowed"]) == (dry["checks"], dry["others"], False)
    record = from_base64(str(shown["record"]))
    assert Digest.of(record) == entry.digest("decision")
    assert Decided.parse(record).facts.request.digest == request.digest
    kept = olga.get("/v1/decisions?count=1").json["decisions"]
    assert kept == [shown["record"]]
    assert olga.get(f"/v1/decisions?count=1&before={Digest.of(record)}").json["decisions"] == []
    gone = olga.get(f"/v1/decisions?count=1&before={Digest.of(b'another')}")
    assert (gone.status, gone.json["code"]) == (404, "decision-not-kept")


def test_nobody_else_sees_recorded_decisions(running: tuple[Deployment, RunningBroker]) -> None:
    _founded, broker = running
    for path in ("/v1/releases/1/explanation", "/v1/decisions"):
        assert broker.caller("dana").get(path).status == 403
        assert broker.caller("worker", enclave=True).get(path).status == 403


def test_an_entry_without_a_decision_and_an_index_beyond_the_log_are_not_found(
    running: tuple[Deployment, RunningBroker],
) -> None:
    _founded, broker = running
    olga = broker.caller("olga")
    assert olga.get("/v1/releases/0/explanation").status == 404
    assert olga.get("/v1/releases/100000/explanation").status in {400, 404}
    assert olga.get("/v1/releases/-1/explanation").status == 400
    assert olga.get(f"/v1/releases/{2**60}/explanation").status == 400


def test_a_kept_decision_is_found_by_its_digest_in_either_file(tmp_path: Path) -> None:
    file = decision_file(tmp_path, most=40)
    records = [f'{{"number":{n},"padding":"xxxxxxxxxx"}}'.encode() for n in range(2)]
    for record in records:
        file.append(record)
    assert (tmp_path / "decisions.older.jsonl").exists()
    assert [file.find(Digest.of(record)) for record in records] == records
    assert file.find(Digest.of(b"another")) is None


def test_statements_are_for_auditors_and_never_those_about_one_person(
    running: tuple[Deployment, RunningBroker],
) -> None:
    _founded, broker = running
    entries = [read_entry(from_base64(data)) for data in _entries(broker)]
    vetting = next(entry.digest("statement") for entry in entries if entry.event is EventName.VETTING_RECORDED)
    for kind, digest in (("vetting", vetting), ("access-review", Digest.of(b"nobody made it"))):
        path = f"/v1/statements/{kind}/{digest}"
        assert broker.caller("dana").get(path).status == 403
        assert broker.caller("olga").get(path).status == 404
    assert broker.caller("olga").get(f"/v1/statements/another-kind/{vetting}").status == 400


def _entries(broker: RunningBroker) -> list[str]:
    entries = broker.caller("olga").get("/v1/log/entries?start=0&count=256").json["entries"]
    assert isinstance(entries, list)
    return [str(entry) for entry in entries]
