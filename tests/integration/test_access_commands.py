"""Grants, exports, reviews, objections and erasures, typed as people type them, against the real keeper in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from simulators.attester import attester
from simulators.deployment_in_memory import signer
from strongroom.access.policy import Policy
from strongroom.access.request import Action
from strongroom.framework.levels import SecurityLevel
from strongroom.release.documents import DocumentKind
from support.clocks import FixedClock
from support.place import Place

pytestmark = pytest.mark.integration
DAY = 86400


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A deployment with everything in force, whose time is ours to move."""
    with Place.opened(tmp_path, monkeypatch) as made:
        yield made


def later(place: Place, seconds: int) -> None:
    """Move the time on."""
    clock = place.deployment.clock
    assert isinstance(clock, FixedClock)
    clock.at += seconds


def exportable(place: Place) -> None:
    """Let `minilm` be exported, by the requester's role."""
    policy: Policy = place.deployment.policy
    terms = tuple(replace(one, export=one.model == "minilm") for one in policy.models)
    rules = tuple(
        replace(rule, requester_role="requester") if rule.action is Action.EXPORT_PLAINTEXT else rule
        for rule in policy.rules
    )
    place.deployment.next_policy(replace(policy, models=terms, rules=rules))


def test_an_export_is_asked_for_agreed_on_and_written_in_clear(place: Place) -> None:
    exportable(place)
    place.seal()
    identity, out = str(place.folder / "station"), place.folder / "plain"
    place.json("recipient", "new", identity)
    ask = ("request", "create", "--model", "minilm", "--purpose", "research", "--for", "2h")
    assert place.json(*ask, "--action", "export-plaintext", by="dana", code=2)["code"] == "usage"
    made = place.json(*ask, "--action", "export-plaintext", "--to", f"{identity}.pub", by="dana")
    digest = made["request"]
    assert made["approvals_needed"] == 2
    take = ("export", digest, str(place.folder / "sealed"), str(out), "--identity", identity)
    assert place.json(*take, by="dana", code=3)["code"] == "quorum-not-met"
    assert not out.exists()
    shown = place.run("approve", digest, "--yes", by="sam").output
    assert "HAND THE DATA KEY TO A PERSON" in shown
    place.json("approve", digest, "--yes", by="rina")
    place.json("recipient", "new", str(place.folder / "other"))
    other = (*take[:-1], str(place.folder / "other"))
    assert place.json(*other, by="dana", code=3)["code"] == "other-recipient"
    assert place.json(*take, by="dana")["files"] == 2
    assert (out / "model.bin").read_bytes() == (place.weights() / "model.bin").read_bytes()
    assert out.stat().st_mode & 0o077 == 0
    assert place.json(*take, by="dana", code=9)["code"] == "conflict"
    again = (*take[:3], str(place.folder / "twice"), *take[4:])
    assert place.json(*again, by="dana", code=3)["code"] == "grant-spent"
    assert next(one["access"] for one in place.json("grant", "ls", by="sam")["grants"]) == "copy"


def test_an_export_of_weights_that_were_changed_leaves_nothing_behind(place: Place) -> None:
    exportable(place)
    place.seal()
    identity, out = str(place.folder / "station"), place.folder / "plain"
    place.json("recipient", "new", identity)
    digest = place.json(
        *("request", "create", "--model", "minilm", "--purpose", "research", "--action", "export-plaintext"),
        *("--to", f"{identity}.pub"),
        by="dana",
    )["request"]
    for name in ("sam", "rina"):
        place.json("approve", digest, "--yes", by=name)
    objects = [path for path in (place.folder / "sealed").rglob("*") if path.is_file() and "json" not in path.suffix]
    largest = max(objects, key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[-100] ^= 1
    largest.write_bytes(data)
    place.json("export", digest, str(place.folder / "sealed"), str(out), "--identity", identity, by="dana", code=6)
    assert not out.exists()
    assert not list(place.folder.glob(".*exporting*"))


def test_grants_are_listed_and_one_is_ended(place: Place) -> None:
    place.seal()
    digest = place.ask()
    assert place.json("grant", "ls", by="sam")["grants"][0]["access"] == "copy"
    for name in ("sam", "rina"):
        place.json("approve", digest, "--yes", by=name)
    newest = place.json("grant", "ls", by="sam")["grants"][0]
    assert (newest["grant"], newest["access"], newest["uses"], newest["live"]) == (digest, "output", 0, True)
    place.json("grant", "revoke", digest, by="sam")
    assert digest not in [one["grant"] for one in place.json("grant", "ls", by="sam")["grants"]]
    assert digest in [one["grant"] for one in place.json("grant", "ls", "--all", by="sam")["grants"]]
    assert place.run("grant", "revoke", by="sam").exit_code == 2


def test_unused_access_is_decided_on_by_a_reviewer_and_none_is_left_out(place: Place) -> None:
    place.seal()
    kept, removed = place.ask("--for", "7d"), place.ask("--for", "7d")
    for digest in (kept, removed):
        for name in ("sam", "rina"):
            place.json("approve", digest, "--yes", by=name)
    later(place, 3 * DAY)
    listed = place.json("people", "review", "--unused", "2", by="otto")
    assert {one["grant"] for one in listed["unused"]} == {kept, removed}
    file = str(place.folder / "review.json")
    half = place.json("people", "review", file, "--unused", "2", "--keep", kept, by="otto", code=2)
    assert half["code"] == "usage"
    place.json("people", "review", file, "--unused", "2", "--keep", kept, "--remove", removed[7:20], by="otto")
    place.json("people", "sign", file, "--yes", by="sam")
    assert place.json("people", "hand-in", file, by="sam", code=3)["code"] == "signer-may-not"
    place.json("people", "review", f"{file}.2", "--unused", "2", "--keep", kept, "--remove", removed, by="otto")
    place.json("people", "sign", f"{file}.2", "--yes", by="otto")
    place.json("people", "hand-in", f"{file}.2", by="otto")
    left = [one["grant"] for one in place.json("grant", "ls", by="otto")["grants"]]
    assert kept in left
    assert removed not in left


def test_break_glass_is_asked_for_in_its_own_words(place: Place) -> None:
    place.seal()
    ask = (
        *("request", "create", "--model", "minilm", "--image", "embedder", "--purpose", "incident-response"),
        *("--action", "break-glass", "--on", attester().record().platform),
    )
    assert place.json(*ask, "--for", "2h", by="sam", code=2)["code"] == "usage"
    digest = place.json(*ask, by="sam")["request"]
    shown = place.run("request", "show", digest, by="rina").output
    assert "NOW, in an emergency" in shown
    file, report = str(place.folder / "review.json"), place.folder / "report.md"
    report.write_text("what happened")
    place.json("request", "review", digest, file, "--outcome", "justified", "--report", str(report), by="vera")
    for name in ("vera", "otto"):
        place.json("people", "sign", file, "--yes", by=name)
    assert place.json("people", "hand-in", file, by="vera", code=9)["code"] == "nothing-to-review"


def test_a_change_at_the_highest_levels_waits_in_sight_and_one_approver_stops_it(place: Place) -> None:
    policy = place.deployment.policy
    terms = tuple(replace(one, level=SecurityLevel.SL4) if one.model == "atlas" else one for one in policy.models)
    place.deployment.next_policy(replace(policy, models=terms))
    file = str(place.folder / "policy.json")
    place.json("policy", "new", file, "--next", by="root-0")
    for name in ("root-0", "root-1"):
        place.json("sign", "policy", file, "--yes", by=name)
    waiting = place.json("adopt", "policy", file, by="root-0", code=4)
    assert waiting["effective"] is not None
    assert "WAITING" in place.run("status", by="sam").output
    assert [one["document"] for one in place.json("status", by="sam")["waiting"]] == [waiting["digest"]]
    assert place.run("people", "object", waiting["digest"], by="sam", text="n\n").exit_code == 1
    assert place.json("people", "object", waiting["digest"], "--yes", by="vera", code=3)["code"] == "signer-may-not"
    place.json("people", "object", waiting["digest"], "--yes", by="rina")
    later(place, 2 * DAY)
    assert place.json("adopt", "policy", file, by="root-0", code=3)["code"] == "change-stopped"
    assert place.json("status", by="sam")["waiting"] == []


def test_a_change_that_nobody_stopped_comes_into_force_when_it_is_handed_in_again(place: Place) -> None:
    policy = place.deployment.policy
    terms = tuple(replace(one, level=SecurityLevel.SL4) if one.model == "atlas" else one for one in policy.models)
    place.deployment.next_policy(replace(policy, models=terms))
    file = str(place.folder / "policy.json")
    place.json("policy", "new", file, "--next", by="root-0")
    for name in ("root-0", "root-1"):
        place.json("sign", "policy", file, "--yes", by=name)
    place.json("adopt", "policy", file, by="root-0", code=4)
    later(place, DAY - 1)
    place.json("adopt", "policy", file, by="root-0", code=4)
    later(place, 1)
    assert place.json("adopt", "policy", file, by="root-0")["effective"] is None
    assert place.json("status", by="sam")["documents"][DocumentKind.POLICY.value]["epoch"] == policy.epoch + 2


def test_two_officers_erase_and_one_signs_nothing_for_themselves(place: Place) -> None:
    file = str(place.folder / "erasure.json")
    place.json("people", "erase", "dana", file, by="vera")
    place.json("people", "sign", file, "--yes", by="vera")
    assert place.json("people", "hand-in", file, by="vera", code=3)["code"] == "officers-missing"
    place.json("people", "sign", file, "--yes", by="otto")
    place.json("people", "hand-in", file, by="vera")
    standing = {one["person"]: one["standing"] for one in place.json("people", "ls", by="sam")["people"]}
    assert standing["dana"] == "suspended"
    assert place.json("people", "sign", str(place.weights() / "config.json"), "--yes", by="vera", code=6)["code"]


def test_an_agent_is_listed_on_a_person_s_account(place: Place) -> None:
    file, key = str(place.folder / "next.json"), str(signer("helper").public_key)
    place.json("people", "roster", "new", file, "--next", by="root-0")
    add = ("people", "roster", "add", file, "--id", "helper", "--org", "research", "--key", key, "--role", "requester")
    assert place.json(*add, "--agent-of", "nobody", code=6)["code"] == "malformed"
    place.json(*add, "--agent-of", "dana")
    assert "helper of research (AI agent on the account of dana)" in place.run("people", "roster", "show", file).output


def test_a_statement_says_all_that_it_says_before_it_is_signed(place: Place) -> None:
    file = str(place.folder / "rina.vetting")
    place.json(
        *("people", "vet", "rina", file, "--tier", "2", "--until", "2099-01-01T00:00:00Z", "--conflict", "HR-17"),
        *("--course", "weights-handling=2098-01-01T00:00:00Z", "--employment", "notice"),
        by="vera",
    )
    shown = place.run("people", "sign", file, by="vera", text="n\n")
    assert shown.exit_code == 1
    for said in ("rina, record 2", "tier      2", "OPEN, HR-17", "NOT SIGNED", "weights-handling until 2098", "notice"):
        assert said in shown.output
    assert place.json("people", "hand-in", file, by="vera", code=3)["code"] == "officers-missing"
    wrong = ("people", "vet", "rina", f"{file}.2", "--tier", "2", "--until", "2099-01-01T00:00:00Z", "--nda", "1")
    assert place.json(*wrong, by="vera", code=2)["code"] == "usage"
