"""What was taken away stays away, whichever copy is put back: the broker's database, the keeper's folder, the clock.

The processes are real, the copies are of a moment before a denial, a suspension, a revocation or a use. The one thing
that goes unseen is tested last: every disk at once, where neither TPM counter nor witness remembers.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from strongroom.access.policy import POLICY_TYPE
from strongroom.access.request import Action
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.roster import ROSTER_TYPE
from support.deployment import DAY, MODEL, ROOTS, ProcessRefusedError
from support.occupied import Occupied, occupied

pytestmark = pytest.mark.integration


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Occupied]:
    with occupied(tmp_path / "home", keeper_module="simulators.moved_clock_keeper") as made:
        yield made


@dataclass(frozen=True)
class Asked:
    """A request to export that two people approved, and the key that it is for."""

    request: Envelope
    key: RecipientKey


def exported(house: Occupied) -> None:
    """Show that an export works here and now."""
    good(house, approved(house))


def good(house: Occupied, asked: Asked) -> None:
    house.export(asked.request, asked.key)


def refused(house: Occupied, asked: Asked, code: str, *, by: str = "dana") -> None:
    before = house.handed_out()
    answer = house.try_export(asked.request, asked.key, by=by)
    assert (answer.status >= 400, answer.json.get("code")) == (True, code), answer.text
    assert house.handed_out() == before


def approved(house: Occupied, **members: object) -> Asked:
    key = RecipientKey()
    request = house.ask_export(key, **members)  # type: ignore[arg-type]  # none is `by`
    house.approve(request)
    return Asked(request, key)


def test_a_database_from_before_brings_nothing_back(house: Occupied, tmp_path: Path) -> None:
    exported(house)
    denied, revoked, used, left = (approved(house) for _ in range(4))
    house.copy_database(tmp_path / "before.db")

    house.deny(denied.request, "sam")
    house.post(f"requests/{house.ask(Action.REVOKE_GRANT, target=revoked.request.digest).digest}/control")
    good(house, used)
    house.deployment.call("suspend", person="dana", cause="deactivated")
    house.put_back_database(tmp_path / "before.db")
    # Not a trace of any of it is left in the database.
    assert house.execute("SELECT count(*) FROM approvals WHERE kind = 'deny'") == [(0,)]
    name = str(used.request.digest)
    assert house.execute("SELECT count(*) FROM requests WHERE closed IS NOT NULL AND digest = ?", name) == [(0,)]
    # Dana's own session is over, so that somebody else has to carry her approved request in.
    house.barred("dana")
    refused(house, left, "requester-inactive", by="sam")
    house.vet("dana")
    # What fell with the suspension stays fallen, also what was neither denied nor used.
    refused(house, used, "grant-spent", by="sam")
    for asked in (denied, revoked, left):
        refused(house, asked, "request-denied", by="sam")
    house.admitted("dana")
    exported(house)
    # A freeze, in the same way.
    open_still, frozen = approved(house), house.ask(Action.FREEZE)
    house.copy_database(tmp_path / "before.db")
    house.post(f"requests/{frozen.digest}/control")
    house.put_back_database(tmp_path / "before.db")
    refused(house, open_still, "model-frozen", by="sam")


def test_a_keeper_s_folder_from_before_takes_nothing_back_and_clears_nobody(house: Occupied, tmp_path: Path) -> None:
    exported(house)
    home, then = house.deployment.home, tmp_path / "then"
    spent, live = approved(house), approved(house)
    with house.all_down():
        copy(home, then, "keeper", "broker")
    good(house, spent)
    house.vet("rina", tier=1)
    with house.all_down():
        # Pins, kept documents, vetting records and the broker's whole folder of that day; the log as it is.
        put_back(then, home, "keeper", "broker")
    refused(house, spent, "grant-spent")
    # Rina's better record is there again, and isn't the one that the log names: she counts as nobody.
    refused(house, live, "approver-not-vetted")
    house.vet("rina")
    good(house, live)


def test_an_older_policy_comes_back_by_no_door(house: Occupied, tmp_path: Path) -> None:
    exported(house)
    first = house.policy_envelope()
    strict = tuple(replace(rule, approver_tier=4) for rule in house.deployment.policy.rules)
    before = approved(house)
    house.copy_database(tmp_path / "before.db")
    house.adopt_policy(rules=strict)
    refused(house, approved(house), "approver-tier-too-low")
    # Handed in again, and put back in the database: the laxer rules don't count.
    answer = house.caller("root-0").post("/v1/documents/policy", {"envelope": first.to_json()})
    assert answer.json["code"] == "stale-document"
    house.put_back_database(tmp_path / "before.db")
    refused(house, before, "policy-changed")
    # Under the newer one's name in the keeper's own folder: it doesn't start.
    name = Digest.of(house.deployment.policy.to_bytes()).value.hex()
    kept = house.deployment.home / "keeper" / f"policy-{name}.json"
    newer = kept.read_bytes()
    house.deployment.stop("keeper")
    kept.write_bytes(first.to_bytes())
    with pytest.raises(ProcessRefusedError) as caught:
        house.deployment.start("keeper")
    assert '"code": "stale-document"' in caught.value.errors
    kept.write_bytes(newer)
    house.deployment.start("keeper")
    refused(house, approved(house), "approver-tier-too-low")


def test_a_policy_or_roster_that_skips_or_forks_is_refused(house: Occupied) -> None:
    exported(house)
    policy, roster = house.deployment.policy, house.deployment.roster
    last = Digest.of(policy.to_bytes())
    for changed in (
        replace(policy, epoch=3, predecessor=last),
        replace(policy, epoch=2, predecessor=Digest.of(b"a fork")),
        replace(policy, rules=policy.rules[:-1]),
    ):
        envelope = sign(POLICY_TYPE, changed.to_bytes(), *ROOTS[:2])
        answer = house.caller("root-0").post("/v1/documents/policy", {"envelope": envelope.to_json()})
        assert answer.json["code"] == "stale-document"
    other = replace(roster, epoch=2, predecessor=Digest.of(b"a fork"))
    envelope = sign(ROSTER_TYPE, other.to_bytes(), *ROOTS[:2])
    answer = house.caller("root-0").post("/v1/documents/roster", {"envelope": envelope.to_json()})
    assert answer.json["code"] == "stale-document"
    exported(house)


def test_a_clock_moved_back_revives_nothing_and_stops_the_keeper(house: Occupied) -> None:
    exported(house)
    moved = house.deployment.home / "keeper" / "clock-moved"
    asked = approved(house, expires=int(time.time()) + 3600)
    moved.write_text("7200")
    refused(house, asked, "request-expired")
    # Two hours later by the keeper's clock it is too late; the clock goes back to where the request was good.
    moved.write_text("0")
    refused(house, asked, "clock-behind")
    asking = house.unsubmitted(Action.FREEZE)
    answer = house.caller("dana").post("/v1/requests", {"request": asking.to_json()})
    assert answer.json["code"] == "clock-behind"
    house.deployment.kill("keeper")
    with pytest.raises(ProcessRefusedError) as caught:
        house.deployment.start("keeper")
    assert '"code": "rolled-back"' in caught.value.errors
    assert "clock" in caught.value.errors
    moved.write_text("7300")
    house.deployment.start("keeper")
    refused(house, asked, "request-expired")
    # Far ahead everybody's vetting is over: that is a denial of service, and nothing else.
    moved.write_text(str(40 * DAY))
    refused(house, asked, "requester-vetting-lapsed")


def test_every_disk_rolled_back_at_once_goes_unseen_but_for_who_saw_more(house: Occupied, tmp_path: Path) -> None:
    """The whole home of yesterday: log, pins, keeper and database agree, and the freeze never was.

    An embedded deployment with neither TPM counter nor witness can't tell; the threat model says so. What is left are
    people: whoever saw the log since names what they saw in each request, and the keeper then refuses.
    """
    exported(house)
    home, then = house.deployment.home, tmp_path / "then"
    live = approved(house)
    with house.all_down():
        copy(home, then, "log", "keeper", "broker")
    house.freeze()
    refused(house, live, "model-frozen")
    seen = house.head()
    with house.all_down():
        put_back(then, home, "log", "keeper", "broker")
    # This is what is NOT detected: nothing in the house remembers the freeze, and the export goes through.
    assert house.deployment.call("status")["frozen"] == []
    good(house, live)
    # Dana's client does remember, and says in whatever she asks for what log she saw: a longer one, or another one.
    assert house.head().size < seen.size + 100
    refused(house, approved(house, log=replace(seen, size=seen.size + 100)), "log-behind")
    while house.head().size < seen.size:
        house.ask(Action.FREEZE)
    refused(house, approved(house, log=seen), "log-forked")
    house.freeze()
    assert house.deployment.call("status")["frozen"] == [MODEL]


def copy(home: Path, then: Path, *names: str) -> None:
    for name in names:
        shutil.copytree(home / name, then / name)


def put_back(then: Path, home: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(home / name)
        shutil.copytree(then / name, home / name)
